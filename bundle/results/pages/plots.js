// Histogram and scatter of what was measured over the scans; outliers are links to their pages.
const Plots = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const [WIDTH, HEIGHT] = [560, 300];
  const MARGIN = { left: 60, right: 16, top: 14, bottom: 44 };
  const BLUE = "#4878a8";
  const ORANGE = "#c2410c";

  function add(parent, tag, attributes, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  function ticks(low, high, whole) {
    const rough = Math.max((high - low) / 5, whole ? 1 : 0);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) found.push(Number(value.toPrecision(6)));
    return found;
  }

  function range(values) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || Math.abs(high) || 1) * 0.04;
    return [low - room, high + room];
  }

  const scale = ([low, high], from, to) => (value) => from + ((value - low) / (high - low)) * (to - from);

  function clear(svg, label) {
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", label);
  }

  function axis(svg, limits, place, vertical, name, whole = false) {
    const floor = HEIGHT - MARGIN.bottom;
    for (const tick of ticks(...limits, whole)) {
      const where = place(tick);
      if (vertical) {
        add(svg, "line", { x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: where, y2: where, stroke: "#e5e9ed" });
        add(svg, "text", { x: MARGIN.left - 6, y: where + 4, "text-anchor": "end" }, String(tick));
      } else {
        add(svg, "line", { x1: where, x2: where, y1: floor, y2: floor + 4, stroke: "#59636e" });
        add(svg, "text", { x: where, y: floor + 17, "text-anchor": "middle" }, String(tick));
      }
    }
    if (vertical) add(svg, "text", { x: 14, y: HEIGHT / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${HEIGHT / 2})` }, name);
    else add(svg, "text", { x: (WIDTH + MARGIN.left) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, name);
  }

  function dot(svg, scan, x, y, outlier, text) {
    const parent = scan.href ? add(svg, "a", { href: scan.href, class: outlier ? "outlier" : "scan", tabindex: outlier ? 0 : -1 }) : svg;
    const mark = add(parent, "circle", { cx: x, cy: y, r: outlier ? 5 : 3.5, fill: outlier ? ORANGE : BLUE, "fill-opacity": outlier ? 1 : 0.65 });
    add(mark, "title", {}, text);
  }

  function histogram(svg, scans, column, name) {
    clear(svg, `histogram of ${name}`);
    const values = scans.map((scan) => scan.values[column]);
    const known = values.filter((value) => value !== null);
    if (!known.length) return;
    const limits = range(known);
    const bins = Math.max(5, Math.min(40, Math.ceil(Math.sqrt(known.length)) * 2));
    const counts = new Array(bins).fill(0);
    const bin = (value) => Math.min(bins - 1, Math.floor(((value - limits[0]) / (limits[1] - limits[0])) * bins));
    for (const value of known) counts[bin(value)] += 1;
    const [floor, width] = [HEIGHT - MARGIN.bottom, (WIDTH - MARGIN.left - MARGIN.right) / bins];
    const x = scale(limits, MARGIN.left, WIDTH - MARGIN.right);
    const y = scale([0, Math.max(...counts) * 1.08], floor, MARGIN.top);
    axis(svg, [0, Math.max(...counts) * 1.08], y, true, "scans", true);
    counts.forEach((count, index) => {
      add(svg, "rect", { x: MARGIN.left + index * width + 0.5, y: y(count), width: Math.max(1, width - 1), height: floor - y(count), fill: BLUE, "fill-opacity": 0.75 });
    });
    axis(svg, limits, x, false, name);
    for (const scan of scans) {
      const z = scan.far[column];
      if (z !== undefined) dot(svg, scan, x(scan.values[column]), floor - 5, true, `${scan.name}: ${scan.values[column]}, robust z ${z.toFixed(1)}`);
    }
  }

  function scatter(svg, scans, columns, names) {
    clear(svg, `${names[1]} against ${names[0]}`);
    const both = scans.filter((scan) => columns.every((column) => scan.values[column] !== null));
    if (!both.length) return;
    const series = columns.map((column) => both.map((scan) => scan.values[column]));
    const limits = series.map(range);
    const x = scale(limits[0], MARGIN.left, WIDTH - MARGIN.right);
    const y = scale(limits[1], HEIGHT - MARGIN.bottom, MARGIN.top);
    axis(svg, limits[1], y, true, names[1]);
    axis(svg, limits[0], x, false, names[0]);
    const far = (index) => columns.some((column) => both[index].far[column] !== undefined);
    const order = both.map((_, index) => index).sort((a, b) => far(a) - far(b)); // outliers on top
    for (const index of order) {
      const [across, up] = [series[0][index], series[1][index]];
      dot(svg, both[index], x(across), y(up), far(index), `${both[index].name}: ${across}, ${up}`);
    }
  }

  return { histogram, scatter };
})();
