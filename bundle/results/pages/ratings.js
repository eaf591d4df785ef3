// Marks of the person who looks: one entry of localStorage for each scan of a folder of results.
const Ratings = (() => {
  const COLUMNS = ["id", "rating", "note", "rated_at", "label_map_sha256"];
  // Pages from file:// share one store in Chromium, so that a folder's address is a part of the key.
  const folder = (index) => new URL(".", new URL(index, location.href)).pathname;

  function open(index) {
    const prefix = `brain-mri-rating|${folder(index)}|`;
    let store = null;
    try {
      store = window.localStorage;
      store.getItem(prefix);
    } catch {
      store = null;
    }

    function read(key) {
      try {
        const entry = JSON.parse(store.getItem(key));
        return entry && typeof entry === "object" ? entry : null;
      } catch {
        return null;
      }
    }

    const get = (id) => (store ? read(prefix + id) : null);

    function put(id, sha, change) {
      if (!store) return false;
      const before = get(id) || {};
      const entry = { rating: "", note: "", ...before, ...change, label_map_sha256: sha, rated_at: new Date().toISOString() };
      try {
        store.setItem(prefix + id, JSON.stringify(entry));
        return true;
      } catch {
        return false;
      }
    }

    // An entry from a file never replaces what was marked here.
    function seed(id, entry) {
      if (!store || !entry || get(id)) return;
      try {
        store.setItem(prefix + id, JSON.stringify(entry));
      } catch {
        // full: the table shows it all the same
      }
    }

    function all() {
      const found = [];
      for (let index = 0; store && index < store.length; index += 1) {
        const key = store.key(index);
        const entry = key.startsWith(prefix) ? read(key) : null;
        if (entry && (entry.rating || entry.note)) found.push({ id: key.slice(prefix.length), ...entry });
      }
      return found.sort((a, b) => (a.id < b.id ? -1 : 1));
    }

    function tsv() {
      const cell = (value) => String(value ?? "").replace(/[\s\u0000-\u001f]+/g, " ").trim();
      const lines = all().map((entry) => COLUMNS.map((column) => cell(entry[column])).join("\t"));
      return [COLUMNS.join("\t"), ...lines].join("\n") + "\n";
    }

    function save() {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([tsv()], { type: "text/tab-separated-values" }));
      link.download = "ratings.tsv";
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }

    return { kept: store !== null, get, put, seed, all, save };
  }

  return { open };
})();
