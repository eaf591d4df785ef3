// The table of all scans: sorted, filtered, with the marks of this browser.
(() => {
  const { scans, measures, start } = JSON.parse(document.getElementById("content").textContent);
  const byId = (id) => document.getElementById(id);
  const ratings = Ratings.open("index.html");
  const body = byId("scans").tBodies[0];
  const rows = [...body.rows];

  for (const row of rows) row.scan = scans[Number(row.dataset.scan)];
  for (const scan of scans) ratings.seed(scan.id, scan.rating);

  function ratingOf(scan) {
    return ratings.get(scan.id) || scan.rating || { rating: "", note: "" };
  }

  function showRatings() {
    for (const row of rows) {
      const entry = ratingOf(row.scan);
      const stale = Boolean(entry.rating) && entry.label_map_sha256 !== row.scan.label_map_sha256;
      const cell = row.querySelector(".rating");
      cell.textContent = entry.rating ? entry.rating + (stale ? " (of another label map)" : "") : "";
      cell.title = entry.note || "";
      cell.className = `rating ${entry.rating === "fail" ? "bad" : "good"}`;
    }
    byId("count").textContent = String(ratings.all().length);
  }

  function filter() {
    const wanted = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = byId("kind").value;
    let shown = 0;
    for (const row of rows) {
      const rating = ratingOf(row.scan).rating;
      const kinds = { all: true, flagged: row.scan.flagged, outliers: row.scan.outlier, failed: row.scan.failed, unmarked: !rating && !row.scan.failed, pass: rating === "pass", fail: rating === "fail" };
      const text = row.textContent.toLowerCase();
      const fits = kinds[kind] && wanted.every((word) => text.includes(word));
      row.classList.toggle("hidden", !fits);
      shown += fits ? 1 : 0;
    }
    byId("shown").textContent = `${shown} of ${rows.length} scans`;
  }

  function key(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim().toLowerCase() : cell.dataset.value;
  }

  function sort(header) {
    const column = header.cellIndex;
    const numeric = header.classList.contains("number");
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compare = (a, b) => {
      const [first, second] = [key(a, column), key(b, column)];
      if (first === "" || second === "") return (first === "") - (second === ""); // what is not known goes last
      const order = numeric ? Number(first) - Number(second) : first.localeCompare(second, undefined, { numeric: true });
      return down ? -order : order;
    };
    rows.sort(compare);
    body.append(...rows);
  }

  function draw() {
    const [one, x, y] = ["one", "x", "y"].map((id) => Number(byId(id).value));
    const named = scans.filter((scan) => scan.values);
    Plots.histogram(byId("histogram"), named, one, measures[one]);
    Plots.scatter(byId("scatter"), named, [x, y], [measures[x], measures[y]]);
  }

  byId("scans").tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) sort(button.closest("th"));
  });
  body.addEventListener("click", (event) => {
    if (!event.target.closest("a")) return;
    const listed = rows.filter((row) => !row.classList.contains("hidden") && row.scan.href);
    Order.keep(location.href, listed.map((row) => ({ id: row.scan.id, name: row.scan.name, href: row.scan.href })));
  });
  byId("filter").addEventListener("input", filter);
  byId("kind").addEventListener("change", filter);
  byId("export").addEventListener("click", () => ratings.save());
  if (measures.length) {
    ["one", "x", "y"].forEach((id, index) => {
      byId(id).value = String(start[index]);
      byId(id).addEventListener("change", draw);
    });
    draw();
  }
  const refresh = () => { showRatings(); filter(); };
  window.addEventListener("storage", refresh);
  window.addEventListener("pageshow", refresh);
  refresh();
  document.body.dataset.ready = "true";
})();
