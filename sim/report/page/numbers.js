// Numbers of the page: quantiles, Student's t, verdicts, and how they are written. Nothing here touches the document.
// The rules are those of judge.py, and a test holds the two to the same numbers.
"use strict";

const NOTHING = "–";

const real = value => value === "inf" ? Infinity : value === null ? NaN : value;

function between(low, high, weight) { // infinite times 0 is no number
  return weight === 0 ? low : weight === 1 ? high : low + weight * (high - low);
}

function quantileAt(share, shares, row) {
  let after = shares.findIndex(one => one >= share);
  after = Math.min(Math.max(after < 0 ? shares.length - 1 : after, 1), shares.length - 1);
  const weight = (share - shares[after - 1]) / (shares[after] - shares[after - 1]);
  return between(row[after - 1], row[after], Math.min(Math.max(weight, 0), 1));
}

function shareWithin(limit, shares, row) {
  if (row.some(Number.isNaN)) return NaN;
  const found = row.findIndex(one => one > limit);
  const after = found < 0 ? row.length : found;
  if (after === 0) return 0;
  if (after === row.length) return shares[shares.length - 1];
  const weight = Number.isFinite(row[after]) ? (limit - row[after - 1]) / (row[after] - row[after - 1]) : 0;
  return between(shares[after - 1], shares[after], weight);
}

function meanInterval(values, t) { // t: of the confidence, by how many values there are
  const n = values.length;
  const unknown = value => ({ value, low: -Infinity, high: Infinity, error: NaN, n });
  if (!n || values.some(Number.isNaN)) return unknown(NaN);
  if (!values.every(Number.isFinite)) return unknown(Infinity);
  const mean = values.reduce((sum, one) => sum + one, 0) / n;
  if (n === 1) return unknown(mean);
  const error = Math.sqrt(values.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (n - 1) / n);
  return { value: mean, low: mean - t[n] * error, high: mean + t[n] * error, error, n };
}

function verdictOf(known, limit) {
  if (Number.isNaN(known.value)) return "inconclusive";
  return known.high <= limit ? "pass" : known.low > limit ? "fail" : "inconclusive";
}

function logGamma(x) { // Lanczos, g = 7: relative error below 1e-14 for x > 0.5
  const c = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
  const sum = c.slice(1).reduce((total, one, place) => total + one / (x + place), c[0]);
  const t = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

function betaFraction(a, b, x) { // Lentz's way through the continued fraction of the incomplete beta function
  const tiny = 1e-300, kept = value => Math.abs(value) < tiny ? tiny : value;
  let c = 1, d = 1 / kept(1 - (a + b) * x / (a + 1)), h = d;
  for (let m = 1; m < 500; m++) {
    const even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / kept(1 + even * d); c = kept(1 + even / c); h *= d * c;
    const odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / kept(1 + odd * d); c = kept(1 + odd / c);
    h *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) break;
  }
  return h;
}

function incompleteBeta(a, b, x) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * betaFraction(a, b, x) / a : 1 - front * betaFraction(b, a, 1 - x) / b;
}

function studentBelow(t, degrees) {
  const tail = incompleteBeta(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2;
  return t > 0 ? 1 - tail : tail;
}

function chanceWithin(known, limit) {
  if (known.n < 2 || !Number.isFinite(known.value)) return NaN;
  if (known.error === 0) return known.value <= limit ? 1 : 0;
  return studentBelow((limit - known.value) / known.error, known.n - 1);
}

function judgeCurve(slider, curve, share, limit) {
  const rows = curve.rows.map(row => row.map(real));
  const value = meanInterval(rows.map(row => quantileAt(share, slider.shares, row)), slider.t);
  const within = meanInterval(rows.map(row => shareWithin(limit, slider.shares, row)), slider.t);
  return { value: { ...value, against: limit }, verdict: verdictOf(value, limit), chance: chanceWithin(value, limit),
    within: within.high === within.low ? { ...within, low: -Infinity, high: Infinity } // all tasks or none: not known exactly
      : Number.isFinite(within.low) ? { ...within, low: Math.max(within.low, 0), high: Math.min(within.high, 1) } : within };
}

function cheapestOf(curves, judged) {
  const passing = curves.map((_, place) => place).filter(place => judged[place].verdict === "pass");
  const priced = passing.filter(place => curves[place].cost !== null);
  if (!priced.length) return passing.length ? passing[0] : null;
  return priced.reduce((best, place) => curves[place].cost < curves[best].cost ? place : best);
}

const RUNGS = { s: [["µs", 1e-6, 1], ["ms", 1e-3, 1], ["s", 1, 1], ["min", 60, 5], ["h", 3600, 5]], share: [["%", 0.01, 0]] };

function rungOf(size, unit) {
  let chosen = RUNGS[unit][unit === "s" && !size ? 2 : 0];
  for (const rung of RUNGS[unit]) if (size / rung[1] >= rung[2] - 5e-4) chosen = rung;
  return chosen;
}

function writePlain(value, unit, digits = 3) {
  if (Number.isNaN(value)) return NOTHING;
  const [suffix, size] = rungOf(Math.abs(value), unit);
  return `${Number((value / size).toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits })} ${suffix}`;
}

function writeChance(value) { // further digits of what is nearly sure would pretend
  return value < 0.001 ? "< 0.1 %" : value > 0.999 ? "> 99.9 %" : writePlain(value, "share");
}

// How many more decimals it takes until both ends as written lie on the side of the threshold where they are.
function clearer(known, size, places, skewed) {
  const against = known.against ?? NaN, half = (known.high - known.low) / 2;
  if (Number.isNaN(against)) return 0;
  for (let more = 0; more <= 3; more++) {
    const [value, reach, low, high] = [known.value, half, known.low, known.high].map(one => Math.round(one / size * 10 ** (places + more)) / 10 ** (places + more));
    const written = skewed ? [low, high] : [value - reach, value + reach];
    if ([known.low, known.high].every((end, place) => (end - against) * (written[place] - against / size) > 0 || end === against)) return more;
  }
  return 0;
}

function writeEstimate(known, unit) { // digits as far as the interval lets them mean something
  if (!Number.isFinite(known.value)) return NOTHING;
  const [suffix, size] = rungOf(Math.abs(known.value), unit);
  const half = (known.high - known.low) / 2 / size, value = known.value / size;
  const most = unit === "share" ? 6 : 4;
  const fixed = (one, places) => { // fewer than no decimals: tens, hundreds
    const step = 10 ** Math.max(-places, 0), shown = Math.max(places, 0);
    const rounded = step > 1 ? Math.round(one / step) * step : one;
    return rounded.toLocaleString("en", { minimumFractionDigits: shown, maximumFractionDigits: shown });
  };
  if (!Number.isFinite(half)) return `${writePlain(known.value, unit)} (no interval)`;
  if (!half) return value ? `${Number(value.toPrecision(most)).toLocaleString("en", { maximumSignificantDigits: most })} ${suffix} ± 0` : `0 ${suffix}`;
  const magnitude = value ? Math.floor(Math.log10(Math.abs(value))) : 0;
  const finest = Math.floor(Math.log10(half / 2));
  const least = half < 5 * Math.abs(value) ? 2 : 1; // as `_DROWNED` of numbers.py
  const digits = Math.min(Math.max(value ? magnitude - finest + 1 : 1, least), most);
  const above = known.high - known.value, below = known.value - known.low, skewed = Math.abs(above - below) > 0.05 * (above + below);
  const coarse = Math.min(value ? digits - 1 - magnitude : Math.max(-finest, 0), 9), places = coarse + clearer(known, size, coarse, skewed);
  if (skewed)
    return `${fixed(value, places)} ${suffix} [${fixed(known.low / size, places)}, ${fixed(known.high / size, places)}]`;
  const error = fixed(half, places);
  return `${fixed(value, places)} ${suffix} ± ${Number(error.replaceAll(",", "")) ? error : "<" + fixed(10 ** -places, places)}`;
}

function sentenceOf(curves, judged, percentile, limit) { // what a limit means for the curves
  if (judged.length === 1) return sentenceOfOne(curves[0].label, judged[0], percentile, limit);
  const best = cheapestOf(curves, judged), passing = judged.filter(one => one.verdict === "pass").length;
  const said = `${percentile} of T_total within ${limit}: ${passing} of ${judged.length} pass`;
  if (best === null) return `${said}.`;
  const { label, cost } = curves[best];
  const dollars = cost?.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const which = cost === null ? `the first of these in the list is ${label}` : `the cheapest is ${label} at $${dollars} an hour`;
  return `${said}; ${which} (${writeEstimate(judged[best].value, "s")}).`;
}

function sentenceOfOne(label, one, percentile, limit) {
  if (!Number.isFinite(one.value.value)) return `${label}: ${percentile} is not known.`;
  if (!Number.isFinite(one.value.low)) return `${label}: ${percentile} ${writePlain(one.value.value, "s")}. One replication has no interval here, so it is not judged.`;
  const stands = { pass: `is within ${limit}`, fail: `is beyond ${limit}`, inconclusive: `is not told apart from ${limit}` };
  return `${label}: ${percentile} ${writeEstimate(one.value, "s")} ${stands[one.verdict]}: ${one.verdict}. ` +
    `${writeEstimate(one.within, "share")} of tasks done are within it.`;
}

// How large what a cell says is, so that `980 ms` comes before `1.2 s`; null for what is no number.
const SIZES = { ns: 1e-9, "µs": 1e-6, us: 1e-6, ms: 1e-3, s: 1, min: 60, h: 3600, d: 86400, "%": 1e-2, k: 1e3, M: 1e6, G: 1e9, kB: 1e3, MB: 1e6,
  GB: 1e9, TB: 1e12, B: 1 };

function sortKey(text) {
  const found = /^[<>≤≥~≈]?\s*([+−-]?)\s*\$?\s*([+−-]?)((?:\d[\d,]*)?\.?\d+(?:e[+-]?\d+)?)\s*([a-zA-Zµ%]+)?/.exec(text.trim());
  if (!found) return null;
  const sign = /[−-]/.test(found[1] + found[2]) ? -1 : 1;
  const size = Object.hasOwn(SIZES, found[4] ?? "") ? SIZES[found[4]] : 1;
  return sign * Number(found[3].replaceAll(",", "")) * size;
}

function comparing(texts) { // numbers where most cells are numbers, else words; what says nothing comes last either way
  const said = texts.filter(text => text.trim() && text.trim() !== NOTHING);
  const numeric = said.filter(text => sortKey(text) !== null).length * 2 > said.length;
  const key = text => text.trim() && text.trim() !== NOTHING ? numeric ? sortKey(text) : text : null;
  return (one, other, turn) => {
    const [a, b] = [key(one), key(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    return turn * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
  };
}
