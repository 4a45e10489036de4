// Draws every <figure class="chart"> from the JSON beside it, again whenever its width changes. The table under each
// chart says the same in words; a chart is a picture to assistive technology.
(() => {
  const colour = {
    candidate: "var(--candidate)", incumbent: "var(--incumbent)", log: "var(--log)", baseline: "var(--quiet)", other: "var(--quiet)",
  };
  const symbol = { candidate: "circle", incumbent: "square", log: "triangle", baseline: "diamond2", other: "diamond2" };
  const of = (kind) => colour[kind] ?? "var(--quiet)";
  const percent = (value) => d3.format(Math.abs(value) < 0.095 && value !== 0 ? ".1%" : ".0%")(value);
  const figure = (value) => d3.format(Math.abs(value) >= 1000 ? ",.0f" : ".3~g")(value);
  const wrapped = (label, letters) => {
    const lines = [""];
    for (const word of label.split(" ")) {
      const last = lines[lines.length - 1];
      if (last && last.length + word.length + 1 > letters) lines.push(word);
      else lines[lines.length - 1] = last ? `${last} ${word}` : word;
    }
    return lines.join("\n");
  };
  const base = (width, more) => ({
    className: "plot", width, style: { fontSize: "13px" }, marginTop: 8, marginBottom: 44, ...more,
  });
  const tip = (channels, options) => Plot.tip(channels, Plot.pointer({ fill: "var(--card)", stroke: "var(--edge)", fontSize: 13, ...options }));

  // One line a row: an interval with its estimate.
  function forest(data, width) {
    const narrow = width < 560;
    const letters = narrow ? 19 : 30;
    const form = data.percent ? percent : figure;
    const grouped = data.rows.some((row) => row.group);
    const rows = data.rows.filter((row) => row.value !== null).map((row) => ({
      ...row, key: grouped ? `${row.group}\u0000${row.label}` : row.label,
    }));
    const shown = (row) => `${row.label}: ${form(row.value)}` +
      (row.lower === null || row.upper === null ? "" : `\n${form(row.lower)} to ${form(row.upper)}`);
    const bounded = rows.filter((row) => row.lower !== null && row.upper !== null);
    const text = (key) => wrapped(grouped ? key.replace("\u0000", ": ") : key, letters);
    const tallest = d3.max(rows, (row) => text(row.key).split("\n").length) ?? 1;
    return Plot.plot(base(width, {
      marginLeft: narrow ? 148 : 220, marginRight: 24, height: rows.length * Math.max(34, 10 + 14 * tallest) + 60,
      x: { inset: 8, label: data.x, grid: true, ticks: narrow ? 4 : 7, tickFormat: form, labelAnchor: "center", labelArrow: "none" },
      y: {
        domain: rows.map((row) => row.key), label: null, tickSize: 0, tickPadding: 8,
        tickFormat: text, lineHeight: 1,
      },
      symbol: { domain: Object.keys(symbol), range: Object.values(symbol) },
      marks: [
        data.zero ? Plot.ruleX([0], { stroke: "var(--ink)", strokeWidth: 1 }) : null,
        Plot.ruleY(bounded, { y: "key", x1: "lower", x2: "upper", stroke: (row) => of(row.kind), strokeWidth: 3, strokeOpacity: 0.75 }),
        Plot.dot(rows, { y: "key", x: "value", fill: (row) => of(row.kind), stroke: "var(--card)", symbol: "kind", r: 6 }),
        tip(rows, { y: "key", x: "value", title: shown }),
      ],
    }));
  }

  // One line an action: its share under each policy.
  function shares(data, width) {
    const points = data.rows.flatMap((row) => Object.keys(data.series)
      .filter((kind) => row[kind] !== null && row[kind] !== undefined)
      .map((kind) => ({ label: row.label, kind, share: row[kind] })));
    const moves = data.rows.filter((row) => row.incumbent !== null && row.candidate !== null);
    const narrow = width < 560;
    return Plot.plot(base(width, {
      marginLeft: narrow ? 110 : 180, marginRight: 24, height: data.rows.length * 38 + 60,
      x: { label: data.x, grid: true, tickFormat: percent, ticks: narrow ? 4 : 7, zero: true, labelAnchor: "center", labelArrow: "none" },
      y: { domain: data.rows.map((row) => row.label), label: null, tickSize: 0, tickFormat: (label) => wrapped(label, narrow ? 14 : 24) },
      symbol: { domain: Object.keys(symbol), range: Object.values(symbol) },
      marks: [
        Plot.link(moves, { x1: "incumbent", x2: "candidate", y: "label", stroke: "var(--candidate)", strokeWidth: 2, strokeOpacity: 0.6 }),
        Plot.dot(points, { x: "share", y: "label", fill: (point) => of(point.kind), stroke: "var(--card)", symbol: "kind", r: 6 }),
        tip(points, { x: "share", y: "label", title: (point) => `${point.label}, ${data.series[point.kind]}: ${percent(point.share)}` }),
      ],
    }));
  }

  // Curves over shares of the windows.
  function lines(data, width) {
    const points = data.lines.flatMap((line) => line.points.map(([x, y]) => ({ kind: line.kind, label: line.label, x, y })));
    return Plot.plot(base(width, {
      marginLeft: 56, marginRight: 24, height: Math.min(340, width * 0.7),
      x: { label: data.x, tickFormat: percent, ticks: 5, domain: [0, 1], labelAnchor: "center", labelArrow: "none" },
      y: { label: data.y, tickFormat: percent, grid: true, domain: [0, 1], labelArrow: "none" }, marginTop: 28,
      marks: [
        data.diagonal ? Plot.line([[0, 0], [1, 1]], { stroke: "var(--edge)" }) : null,
        Plot.line(points, { x: "x", y: "y", z: "kind", stroke: (point) => of(point.kind), strokeWidth: 2.5, strokeDasharray: (point) => (point.kind === "candidate" ? "none" : "6 4") }),
        tip(points, { x: "x", y: "y", title: (point) => `${point.label}: the heaviest ${percent(point.x)} of windows\ncarry ${percent(point.y)} of the weight` }),
      ],
    }));
  }

  // A curve with its range.
  function band(data, width) {
    return Plot.plot(base(width, {
      marginLeft: 56, marginRight: 24, height: Math.min(340, width * 0.7), marginTop: 28,
      x: { label: data.x, tickFormat: percent, ticks: 5, labelAnchor: "center", labelArrow: "none" },
      y: { label: data.y, grid: true, tickFormat: figure, labelArrow: "none" },
      marks: [
        Plot.areaY(data.rows, { x: "x", y1: "lower", y2: "upper", fill: "var(--candidate)", fillOpacity: 0.18 }),
        Plot.line(data.rows, { x: "x", y: "value", stroke: "var(--candidate)", strokeWidth: 2.5 }),
        tip(data.rows, { x: "x", y: "value", title: (row) => `${percent(row.x)}: ${figure(row.value)}\n${figure(row.lower)} to ${figure(row.upper)}` }),
      ],
    }));
  }

  // Gain and proved gain over the share of the new policy.
  function mix(data, width) {
    const rows = data.rows.filter((row) => row.value !== null);
    const chosen = data.chosen === null ? [] : [data.chosen];
    return Plot.plot(base(width, {
      marginLeft: 56, marginRight: 24, height: Math.min(340, width * 0.7), marginTop: 28,
      x: { label: data.x, tickFormat: percent, ticks: 5, labelAnchor: "center", labelArrow: "none" },
      y: { label: data.y, grid: true, tickFormat: figure, labelArrow: "none" },
      marks: [
        Plot.ruleY([0], { stroke: "var(--ink)" }),
        Plot.ruleX(chosen, { stroke: "var(--ink)", strokeDasharray: "2 4", strokeWidth: 2 }),
        Plot.text(chosen, { x: (x) => x, text: () => "chosen", frameAnchor: "top", textAnchor: data.chosen > 0.7 ? "end" : "start", dx: data.chosen > 0.7 ? -6 : 6, dy: 2, fill: "var(--ink)" }),
        Plot.line(rows, { x: "x", y: "value", stroke: "var(--candidate)", strokeWidth: 2.5 }),
        Plot.line(rows.filter((row) => row.lower !== null), { x: "x", y: "lower", stroke: "var(--log)", strokeWidth: 2.5, strokeDasharray: "6 4" }),
        tip(rows, { x: "x", y: "value", title: (row) => `${percent(row.x)}: gain ${figure(row.value)}\nlikely to be proved: ${figure(row.lower)}\nchance to pass: ${percent(row.power)}` }),
      ],
    }));
  }

  // Small panels: predicted against observed.
  function calibration(data, width) {
    const columns = Math.max(1, Math.min(data.panels.length, Math.floor(width / 230)));
    const points = data.panels.flatMap((panel, i) => panel.bins.map((bin) => ({
      ...bin, label: panel.label, fx: i % columns, fy: Math.floor(i / columns),
    })));
    const titles = data.panels.map((panel, i) => ({ label: panel.label, fx: i % columns, fy: Math.floor(i / columns) }));
    const top = d3.max(points, (point) => Math.max(point.predicted, point.upper ?? point.observed)) ?? 1;
    return Plot.plot(base(width, {
      marginLeft: 48, marginRight: 16, marginTop: 26, height: Math.ceil(data.panels.length / columns) * 200 + 60,
      fx: { axis: null, padding: 0.1 }, fy: { axis: null, padding: 0.22 },
      x: { label: "predicted", tickFormat: percent, ticks: 3, domain: [0, top], labelAnchor: "center", labelArrow: "none" },
      y: { label: "observed", tickFormat: percent, ticks: 3, domain: [0, top], grid: true, labelArrow: "none" },
      marks: [
        Plot.frame({ stroke: "var(--edge)" }),
        Plot.link([[0, top]], { x1: (d) => d[0], y1: (d) => d[0], x2: (d) => d[1], y2: (d) => d[1], stroke: "var(--edge)", strokeWidth: 1.5 }),
        Plot.text(titles, { fx: "fx", fy: "fy", text: "label", frameAnchor: "top-left", dx: 6, dy: 6, fontWeight: 600, fill: "var(--ink)" }),
        Plot.ruleX(points.filter((point) => point.lower !== null), { fx: "fx", fy: "fy", x: "predicted", y1: "lower", y2: "upper", stroke: "var(--candidate)", strokeWidth: 2 }),
        Plot.dot(points, { fx: "fx", fy: "fy", x: "predicted", y: "observed", fill: "var(--candidate)", r: 4 }),
        tip(points, { fx: "fx", fy: "fy", x: "predicted", y: "observed", title: (point) => `${point.label}\npredicted ${percent(point.predicted)}, observed ${percent(point.observed)}` }),
      ],
    }));
  }

  // Cells of two features: the darker the more it is worth; the letters name the action.
  function map(data, width) {
    const narrow = width < 560;
    const across = data.x.ticks.length;
    const left = narrow ? 84 : 110;
    const room = (width - left - 16) / across;
    const cells = data.cells;
    const low = d3.min(cells, (cell) => cell.value), high = d3.max(cells, (cell) => cell.value);
    const strength = (cell) => (high > low ? (cell.value - low) / (high - low) : 0.5);
    return Plot.plot(base(width, {
      marginLeft: left, marginRight: 16, height: data.y.ticks.length * 46 + 72, marginTop: 28,
      x: { domain: d3.range(across), label: data.x.label, tickFormat: (i) => wrapped(String(data.x.ticks[i]), Math.max(4, Math.floor(room / 8))), tickSize: 0, labelAnchor: "center", labelArrow: "none", padding: 0.04 },
      y: { domain: d3.range(data.y.ticks.length), reverse: true, label: data.y.label, labelAnchor: "top", tickFormat: (i) => wrapped(String(data.y.ticks[i]), narrow ? 8 : 14), tickSize: 0, labelArrow: "none", padding: 0.06 },
      marks: [
        Plot.cell(cells, { x: "x", y: "y", fill: "var(--candidate)", fillOpacity: (cell) => 0.12 + 0.5 * strength(cell) }),
        Plot.text(cells, { x: "x", y: "y", text: (cell) => shortened(cell.action_id, Math.floor(room / 7.5)), fill: "var(--ink)" }),
        tip(cells, { x: "x", y: "y", title: (cell) => `${data.x.label}: ${data.x.ticks[cell.x]}\n${data.y.label}: ${data.y.ticks[cell.y]}\n${cell.action_id} in ${percent(cell.share)} of ${d3.format(",")(cell.decisions)} decisions\nexpected value ${figure(cell.value)}` }),
      ],
    }));
  }
  // One bar a row.
  function bars(data, width) {
    const narrow = width < 560;
    const form = data.percent ? percent : d3.format(",");
    const rows = data.rows.map((row) => ({ ...row, key: row.group ? `${row.group}: ${row.label}` : row.label }));
    const [left, right] = [narrow ? 132 : 210, rows.some((row) => row.note) ? 130 : 64];
    return Plot.plot(base(width, {
      marginLeft: left, marginRight: right, height: rows.length * 32 + 60,
      x: { label: data.x, grid: true, ticks: Math.max(1, Math.min(6, Math.floor((width - left - right) / 60))), tickFormat: form, labelAnchor: "center", labelArrow: "none" },
      y: { domain: rows.map((row) => row.key), label: null, tickSize: 0, tickFormat: (key) => wrapped(key, narrow ? 16 : 28), lineHeight: 1, padding: 0.3 },
      marks: [
        Plot.barX(rows, { y: "key", x: "value", fill: (row) => (row.chosen === false ? "var(--quiet)" : "var(--candidate)"), fillOpacity: 0.85 }),
        Plot.text(rows, { y: "key", x: "value", text: (row) => [form(row.value), row.note].filter(Boolean).join(", "), textAnchor: "start", dx: 6, fill: "var(--ink)" }),
        Plot.ruleX([0], { stroke: "var(--ink)" }),
      ],
    }));
  }

  // What happened to a customer, one lane for each kind of thing.
  function timeline(data, width) {
    const narrow = width < 560;
    const rows = data.rows.map((row) => ({ ...row, moment: new Date(row.moment) }));
    const kind = { contact: "candidate", event: "log", decision: "incumbent" };
    return Plot.plot(base(width, {
      marginLeft: narrow ? 110 : 170, marginRight: 24, height: data.lanes.length * 30 + 60,
      x: { type: "utc", label: null, ticks: narrow ? 4 : 8, grid: true, domain: data.span.map((day) => new Date(day)) },
      y: { domain: data.lanes, label: null, tickSize: 0, tickFormat: (lane) => wrapped(lane, narrow ? 14 : 24), grid: true },
      symbol: { domain: Object.keys(symbol), range: Object.values(symbol) },
      marks: [
        Plot.dot(rows, { x: "moment", y: "lane", symbol: (row) => kind[row.kind], fill: (row) => of(kind[row.kind]), stroke: "var(--card)", r: 6 }),
        tip(rows, { x: "moment", y: "lane", title: (row) => `${row.lane}\n${row.when}${row.value ? `\n${row.value}` : ""}` }),
      ],
    }));
  }
  const shortened = (label, letters) => (label.length <= letters ? label : `${label.slice(0, Math.max(1, letters - 1))}…`);

  const kinds = { forest, shares, lines, band, mix, calibration, map, bars, timeline };
  for (const place of document.querySelectorAll("figure.chart")) {
    const canvas = place.querySelector(".canvas");
    const data = JSON.parse(place.querySelector("script").textContent);
    let drawn = 0;
    const draw = () => {
      const width = Math.floor(canvas.clientWidth);
      if (width === drawn || width === 0) return;
      drawn = width;
      const picture = kinds[place.dataset.kind](data, width);
      for (const part of picture.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");  // one picture, one name
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", `${place.dataset.title}. The table below says the same.`);
      canvas.replaceChildren(picture);
    };
    new ResizeObserver(draw).observe(canvas);
    draw();
  }
})();
