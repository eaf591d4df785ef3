// The scans that the index showed when one of them was opened, in its order: what the keys step through in that tab.
const Order = (() => {
  const key = (index) => `brain-mri-order|${new URL(index, location.href).pathname}`;

  function keep(index, scans) {
    try {
      sessionStorage.setItem(key(index), JSON.stringify(scans));
    } catch {
      // pages then go by the order of all scans
    }
  }

  // The place of a scan among them, with its neighbours; null where the index did not show it.
  function find(index, id) {
    let scans;
    try {
      scans = JSON.parse(sessionStorage.getItem(key(index)));
    } catch {
      return null;
    }
    const place = Array.isArray(scans) ? scans.findIndex((scan) => scan.id === id) : -1;
    if (place < 0) return null;
    const base = new URL(index, location.href);
    const neighbour = (scan) => (scan ? { name: scan.name, href: new URL(scan.href, base).href } : null);
    return { place, count: scans.length, previous: neighbour(scans[place - 1]), next: neighbour(scans[place + 1]) };
  }

  return { keep, find };
})();
