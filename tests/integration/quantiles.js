// What the console's reader makes of two made-up scrapes.
async () => {
  const { parseMetrics, buckets, quantile, growth } = await import("/console/files/prometheus.js");
  const scrape = (...counts) =>
    parseMetrics(
      [
        "# HELP t x",
        ...[0.1, 0.2, "+Inf"].map((le, at) => `t_bucket{a="x,\\"}",le="${le}"} ${counts[at]}`),
        `c_total ${counts[2]} 1700000000000`,
      ].join("\n"),
    );
  const between = buckets(scrape(1, 1, 1), scrape(5, 9, 11), "t", ({ a }) => a === 'x,"}');
  return {
    counts: between.map(({ count }) => count),
    p50: quantile(0.5, between),
    p40: quantile(0.4, between),
    p99: quantile(0.99, between),
    none: quantile(0.5, buckets(scrape(1, 1, 1), scrape(1, 1, 1), "t")),
    again: buckets(scrape(5, 9, 11), scrape(1, 2, 3), "t").map(({ count }) => count),
    grown: growth(scrape(0, 0, 4), scrape(0, 0, 11), "c_total"),
    fallen: growth(scrape(0, 0, 4), scrape(0, 0, 3), "c_total"),
  };
};
