// The page of one scan: what is under the cursor, keys, marks.
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const { structures, volume } = content;
  const ratings = Ratings.open(content.index);
  const byId = (id) => document.getElementById(id);
  const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  let viewer = null;

  function words(point) {
    const structure = structures[point.channel - 1];
    const place = `x ${number(point.world[0], 1)}, y ${number(point.world[1], 1)}, z ${number(point.world[2], 1)} mm`;
    if (!structure) return `no structure; ${place}`;
    const z = structure.z === null ? "" : `, z ${number(structure.z, 1)}`;
    return `${structure.name} (${structure.code}), ${number(structure.volume_ml, 2)} mL${z}; ${place}`;
  }

  function choose(channel) {
    document.querySelectorAll("tr[data-channel]").forEach((row) => {
      row.classList.toggle("chosen", Number(row.dataset.channel) === channel);
    });
  }

  function onMove(point) {
    byId("readout").textContent = words(point);
    choose(point.channel);
  }

  function onHover(point) {
    byId("under").textContent = point ? `under the cursor: ${words(point)}` : "";
  }

  function setOpacity(percent) {
    byId("opacity").value = String(percent);
    byId("opacity-value").textContent = `${percent} %`;
    viewer.set({ opacity: percent / 100 });
  }

  function toggle(name, button) {
    viewer.set({ [name]: !viewer.style[name] });
    byId(button).setAttribute("aria-pressed", String(viewer.style[name]));
  }

  function showRating() {
    const entry = ratings.get(content.id);
    const rating = entry ? entry.rating : "";
    for (const name of ["pass", "fail"]) byId(name).setAttribute("aria-pressed", String(rating === name));
    const stale = Boolean(rating) && entry.label_map_sha256 !== content.label_map_sha256;
    byId("stale").classList.toggle("hidden", !stale);
    if (document.activeElement !== byId("note")) byId("note").value = entry ? entry.note : "";
    byId("rating").textContent = rating ? `marked: ${rating}` : "not marked";
    byId("printed").textContent = entry ? [rating, entry.note].filter(Boolean).join(": ") : "";
    byId("count").textContent = String(ratings.all().length);
  }

  function rate(rating) {
    const kept = ratings.put(content.id, content.label_map_sha256, { rating });
    showRating();
    if (!kept) byId("rating").textContent = "this browser keeps nothing from this page";
  }

  function mark(rating) {
    const entry = ratings.get(content.id);
    rate(entry && entry.rating === rating ? "" : rating);
  }

  // Where the index showed a part of the scans, or another order, the links follow it.
  function follow() {
    const order = content.index ? Order.find(content.index, content.id) : null;
    if (!order) return;
    const arrows = { previous: (name) => `← ${name}`, next: (name) => `${name} →` };
    for (const [link, text] of Object.entries(arrows)) {
      const anchor = byId(link);
      anchor.classList.toggle("hidden", !order[link]);
      anchor.textContent = order[link] ? text(order[link].name) : "";
      if (order[link]) anchor.href = order[link].href;
      else anchor.removeAttribute("href");
    }
    byId("place").textContent = `${order.place + 1} of ${order.count} in the list`;
  }

  function go(link) {
    const target = byId(link);
    if (target && target.href) location.href = target.href;
  }

  const KEYS = {
    n: () => go("next"),
    b: () => go("previous"),
    i: () => go("index"),
    p: () => rate("pass"),
    f: () => rate("fail"),
    u: () => rate(""),
    l: () => viewer && toggle("shown", "shown"),
    o: () => viewer && toggle("outline", "outline"),
    x: () => viewer && toggle("cross", "cross"),
    "+": () => viewer && setOpacity(Math.min(100, Number(byId("opacity").value) + 10)),
    "-": () => viewer && setOpacity(Math.max(0, Number(byId("opacity").value) - 10)),
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=text], textarea, select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = KEYS[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });

  function listen() {
    byId("pass").addEventListener("click", () => mark("pass"));
    byId("fail").addEventListener("click", () => mark("fail"));
    byId("export").addEventListener("click", () => ratings.save());
    byId("note").addEventListener("change", (event) => {
      ratings.put(content.id, content.label_map_sha256, { note: event.target.value });
      showRating();
    });
    window.addEventListener("storage", showRating);
    window.addEventListener("pageshow", showRating);
  }

  function listenToViewer() {
    byId("opacity").addEventListener("input", (event) => setOpacity(Number(event.target.value)));
    for (const name of ["shown", "outline", "cross"]) byId(name).addEventListener("click", () => toggle(name, name));
    document.querySelectorAll("button.goto").forEach((button) => {
      button.addEventListener("click", () => {
        const structure = structures[Number(button.closest("tr").dataset.channel) - 1];
        if (structure.at) viewer.move(structure.at);
      });
    });
    byId("only").addEventListener("change", (event) => viewer.set({ only: Number(event.target.value) }));
  }

  listen();
  follow();
  showRating();
  Viewer.make(byId("views"), volume, structures, onMove, onHover).then((made) => {
    viewer = made;
    listenToViewer();
    document.body.dataset.ready = "true";
  }, (error) => {
    byId("readout").textContent = `the view cannot be drawn in this browser (${error.message || error})`;
  });
})();
