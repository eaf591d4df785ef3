// Three planes of a volume of bytes in RAS order, the first axis fastest, with labels on top.
const Viewer = (() => {
  // Neurological convention: in coronal and axial panels the patient's left is on the left.
  const PLANES = [
    { name: "sagittal", normal: 0, right: 1, up: 2 },
    { name: "coronal", normal: 1, right: 0, up: 2 },
    { name: "axial", normal: 2, right: 0, up: 1 },
  ];
  const AXES = ["x", "y", "z"];
  const ENDS = [["L", "R"], ["P", "A"], ["I", "S"]];
  const GAP_PX = 6;
  const SMALLEST_SCALE = 1.1; // pixels a mm: below that, panels go below one another
  const TALLEST_PX = 560; // of a panel, so that all of it is seen at once

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function make(container, volume, structures, onMove, onHover) {
    const { shape, spacing, affine } = volume;
    const packed = await unpack(volume.labels);
    const labels = volume.label_bytes === 2 ? new Uint16Array(packed.buffer) : packed; // little-endian, as browsers are
    const grey = volume.grey ? await unpack(volume.grey) : new Uint8Array(labels.length);
    const strides = [1, shape[0], shape[0] * shape[1]];
    const at = [...volume.start];
    const style = { opacity: 0.4, outline: false, shown: true, cross: true, only: 0 };
    const palette = [[0, 0, 0], ...structures.map((structure) => structure.colour)];
    const offset = (voxel) => voxel[0] + voxel[1] * strides[1] + voxel[2] * strides[2];
    const clamp = (value, axis) => Math.min(shape[axis] - 1, Math.max(0, Math.round(value)));

    function describe(voxel) {
      const where = offset(voxel);
      const world = [0, 1, 2].map((row) => affine[row][3] + affine[row].slice(0, 3).reduce((sum, entry, axis) => sum + entry * voxel[axis], 0));
      return { channel: labels[where], grey: volume.grey ? grey[where] : null, world };
    }

    // A slice as two pictures at the voxels' own size: the scan, and the labels where there are any.
    function slices(plane) {
      const width = shape[plane.right];
      const height = shape[plane.up];
      const scan = new ImageData(width, height);
      const paint = new ImageData(width, height);
      const base = at[plane.normal] * strides[plane.normal];
      const [step, rise] = [strides[plane.right], strides[plane.up]];
      const fill = style.outline ? 0 : Math.round(255 * style.opacity);
      const edge = style.outline ? Math.round(255 * style.opacity) : 0;
      for (let row = 0; row < height; row += 1) {
        const up = height - 1 - row;
        for (let column = 0; column < width; column += 1) {
          const from = base + column * step + up * rise;
          const to = 4 * (row * width + column);
          scan.data[to] = scan.data[to + 1] = scan.data[to + 2] = grey[from];
          scan.data[to + 3] = 255;
          const channel = labels[from];
          if (!channel || !style.shown || (style.only && style.only !== channel)) continue;
          const inner = column > 0 && column < width - 1 && up > 0 && up < height - 1 && labels[from - step] === channel &&
            labels[from + step] === channel && labels[from - rise] === channel && labels[from + rise] === channel;
          const colour = palette[channel] || [255, 255, 255];
          paint.data[to] = colour[0];
          paint.data[to + 1] = colour[1];
          paint.data[to + 2] = colour[2];
          paint.data[to + 3] = inner ? fill : Math.max(fill, edge);
        }
      }
      return [scan, paint];
    }

    const panels = PLANES.map((plane) => {
      const figure = document.createElement("figure");
      const canvas = document.createElement("canvas");
      const caption = document.createElement("figcaption");
      canvas.tabIndex = 0;
      canvas.dataset.plane = plane.name;
      canvas.setAttribute("role", "application");
      canvas.setAttribute("aria-label", `${plane.name} slice: arrow keys move in it, Page Up and Page Down change it`);
      canvas.setAttribute("aria-describedby", "readout");
      figure.append(canvas, caption);
      container.append(figure);
      return { plane, canvas, caption, layer: document.createElement("canvas") };
    });

    function stamp(context, panel, picture, smooth) {
      panel.layer.width = picture.width;
      panel.layer.height = picture.height;
      panel.layer.getContext("2d").putImageData(picture, 0, 0);
      context.imageSmoothingEnabled = smooth;
      context.drawImage(panel.layer, 0, 0, panel.canvas.width, panel.canvas.height);
    }

    function draw(panel) {
      const { plane, canvas } = panel;
      const context = canvas.getContext("2d");
      const { width, height } = canvas;
      const [scan, paint] = slices(plane);
      context.clearRect(0, 0, width, height);
      stamp(context, panel, scan, true);
      stamp(context, panel, paint, false);
      const x = ((at[plane.right] + 0.5) / shape[plane.right]) * width;
      const y = (1 - (at[plane.up] + 0.5) / shape[plane.up]) * height;
      if (style.cross) {
        context.fillStyle = "rgba(120, 230, 255, 0.75)";
        const [hole, line] = [8 * panel.ratio, Math.max(1, Math.round(panel.ratio))];
        context.fillRect(x, 0, line, Math.max(0, y - hole));
        context.fillRect(x, y + hole, line, height);
        context.fillRect(0, y, Math.max(0, x - hole), line);
        context.fillRect(x + hole, y, width, line);
      }
      context.fillStyle = "#ffffff";
      context.font = `bold ${14 * panel.ratio}px "DejaVu Sans Mono", monospace`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      const inset = 10 * panel.ratio;
      context.fillText(ENDS[plane.right][0], inset, height / 2);
      context.fillText(ENDS[plane.right][1], width - inset, height / 2);
      context.fillText(ENDS[plane.up][1], width / 2, inset);
      context.fillText(ENDS[plane.up][0], width / 2, height - inset);
      panel.caption.textContent = `${plane.name}, ${AXES[plane.normal]} = ${describe(at).world[plane.normal].toFixed(1)} mm`;
    }

    function size() {
      const extent = (axis) => shape[axis] * spacing[axis];
      const room = container.clientWidth - 12 - GAP_PX * (PLANES.length - 1);
      const total = PLANES.reduce((sum, plane) => sum + extent(plane.right), 0);
      const tallest = Math.max(...PLANES.map((plane) => extent(plane.up)));
      const scale = Math.min(TALLEST_PX / tallest, Math.max(SMALLEST_SCALE, room / total));
      const ratio = window.devicePixelRatio || 1;
      for (const panel of panels) {
        const [width, height] = [extent(panel.plane.right) * scale, extent(panel.plane.up) * scale];
        panel.ratio = ratio;
        panel.canvas.style.width = `${Math.floor(width)}px`;
        panel.canvas.style.height = `${Math.floor(height)}px`;
        panel.canvas.width = Math.floor(width * ratio);
        panel.canvas.height = Math.floor(height * ratio);
      }
    }

    let waiting = false;
    function redraw() {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        panels.forEach(draw);
      });
    }

    function move(voxel) {
      voxel.forEach((value, axis) => { at[axis] = clamp(value, axis); });
      redraw();
      onMove(describe(at), [...at]);
    }

    function pointed(panel, event) {
      const box = panel.canvas.getBoundingClientRect();
      const voxel = [...at];
      const { right, up } = panel.plane;
      voxel[right] = clamp(((event.clientX - box.left) / box.width) * shape[right] - 0.5, right);
      voxel[up] = clamp((1 - (event.clientY - box.top) / box.height) * shape[up] - 0.5, up);
      return voxel;
    }

    function step(axis, by) {
      const voxel = [...at];
      voxel[axis] += by;
      move(voxel);
    }

    function onKey(panel, event) {
      const { normal, right, up } = panel.plane;
      const moves = { ArrowLeft: [right, -1], ArrowRight: [right, 1], ArrowUp: [up, 1], ArrowDown: [up, -1], PageUp: [normal, 1], PageDown: [normal, -1] };
      const [axis, by] = moves[event.key] || [];
      if (axis === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      step(axis, event.shiftKey ? 10 * by : by);
    }

    for (const panel of panels) {
      const { canvas } = panel;
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        move(pointed(panel, event));
      });
      canvas.addEventListener("pointermove", (event) => {
        const voxel = pointed(panel, event);
        if (event.buttons & 1) move(voxel);
        onHover(describe(voxel));
      });
      canvas.addEventListener("pointerleave", () => onHover(null));
      canvas.addEventListener("keydown", (event) => onKey(panel, event));
      canvas.addEventListener("wheel", (event) => {
        if (event.ctrlKey) return;
        event.preventDefault();
        step(panel.plane.normal, event.deltaY < 0 ? 1 : -1);
      }, { passive: false });
    }
    window.addEventListener("resize", () => { size(); redraw(); });
    size();
    panels.forEach(draw);
    move(at);
    return { move, set: (change) => { Object.assign(style, change); redraw(); }, style };
  }

  return { make };
})();
