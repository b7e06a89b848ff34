// The Prometheus text format, and what two scrapes tell: rates of counters, quantiles of histograms.

/** Every sample of a scrape by series name: lists of { labels, value }. */
export function parseMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    if (!line || line[0] === "#") continue;
    const match = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const sample = { labels: readLabels(match[2] ?? ""), value: number(match[3]) };
    if (!found.has(match[1])) found.set(match[1], []);
    found.get(match[1]).push(sample);
  }
  return found;
}

const number = (text) => (text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));

function readLabels(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(/([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
    labels[name] = value.replace(/\\(.)/g, (_, one) => (one === "n" ? "\n" : one));
  }
  return labels;
}

/** The sum of a series' samples whose labels pass `where`. */
export function total(scrape, name, where = () => true) {
  return (scrape.get(name) ?? []).filter(({ labels }) => where(labels)).reduce((sum, { value }) => sum + value, 0);
}

/** How far a counter grew between two scrapes; one that fell began again at 0. */
export function growth(before, after, name, where = () => true) {
  const old = total(before, name, where),
    now = total(after, name, where);
  return now < old ? now : now - old;
}

/** How many observations fell into each bucket between two scrapes: [{ edge, count }], counts not cumulated. */
export function buckets(before, after, name, where = () => true) {
  const cumulated = (scrape) => {
    const sums = new Map();
    for (const { labels, value } of scrape.get(`${name}_bucket`) ?? []) {
      if (where(labels)) sums.set(number(labels.le), (sums.get(number(labels.le)) ?? 0) + value);
    }
    return sums;
  };
  const old = cumulated(before),
    now = cumulated(after);
  const edges = [...now.keys()].sort((a, b) => a - b);
  const fell = edges.some((edge) => now.get(edge) < (old.get(edge) ?? 0));
  let below = 0;
  return edges.map((edge) => {
    const upTo = now.get(edge) - (fell ? 0 : (old.get(edge) ?? 0));
    const count = upTo - below;
    below = upTo;
    return { edge, count };
  });
}

/** The q-quantile, straight between the edges of its bucket as Prometheus does it; null without observations. */
export function quantile(q, counted) {
  const all = counted.reduce((sum, { count }) => sum + count, 0);
  if (!all) return null;
  let left = q * all,
    lower = 0;
  for (const { edge, count } of counted) {
    if (count > 0 && left <= count) return edge === Infinity ? lower : lower + ((edge - lower) * left) / count;
    left -= count;
    if (edge !== Infinity) lower = edge;
  }
  return lower;
}
