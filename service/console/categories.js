// Colours of categories, the same in the timeline and in the heat map.

const HUES = ["--one", "--two", "--three", "--four", "--five", "--six"];

/** A colour per category, the same wherever it is shown; the most frequent have one of their own. */
export function categoryColours(behaviors) {
  const counts = new Map();
  for (const { category } of behaviors)
    if (category !== null) counts.set(String(category), (counts.get(String(category)) ?? 0) + 1);
  const ranked = [...counts.entries()].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  return new Map(ranked.map((name, at) => [name, at < HUES.length - 1 ? HUES[at] : HUES[HUES.length - 1]]));
}
