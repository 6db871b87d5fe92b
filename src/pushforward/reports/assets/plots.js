"use strict";
// The plots, drawn by Plotly in the page's colors.
{
  // An explicit list, because Plotly's own has a button that sends the numbers to a server.
  const buttons = ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"];
  const config = { displaylogo: false, responsive: true, modeBarButtons: [buttons] };
  const number = (value) => (Number.isFinite(value) ? Number(value.toPrecision(4)).toString() : "not finite");
  // Plotly reads some HTML in texts.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const shortened = (text) => plain(text.length > 22 ? `${text.slice(0, 20)}…` : text);

  const colors = () => {
    const probe = document.body.appendChild(document.createElement("span"));
    const color = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
    const found = Object.fromEntries(["page", "ink", "soft", "line", "one", "two"].map((name) => [name, color(name)]));
    probe.remove();
    return found;
  };

  const axis = (c, more) => ({
    gridcolor: c.line, zerolinecolor: c.line, linecolor: c.soft, tickcolor: c.soft, tickfont: { size: 11 },
    automargin: true, ...more,
  });
  const layout = (c, more) => ({
    paper_bgcolor: c.page, plot_bgcolor: c.page, font: { color: c.ink, family: "system-ui, sans-serif", size: 12 },
    margin: { l: 40, r: 12, t: 10, b: 36 }, showlegend: false, hoverlabel: { bgcolor: c.page, font: { color: c.ink } },
    dragmode: "zoom", ...more,
  });

  const decode = (series) => {
    const bytes = Uint8Array.from(atob(series.values), (c) => c.charCodeAt(0));
    const offsets = new Float32Array(bytes.buffer);
    return (index) => {
      const column = offsets.subarray(index * series.rows, (index + 1) * series.rows);
      return Array.from(column, (offset) => offset + series.center[index]);
    };
  };

  const correlation = (x, y) => {
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length, mx = mean(x), my = mean(y);
    const product = (a, ma, b, mb) => a.reduce((sum, value, i) => sum + (value - ma) * (b[i] - mb), 0);
    return product(x, mx, y, my) / Math.sqrt(product(x, mx, x, mx) * product(y, my, y, my));
  };

  const histogram = (draws, index, c, axes = {}) => {
    const [low, high] = draws.range[index], bins = draws.series[0].counts[index].length, width = (high - low) / bins;
    const x = Array.from({ length: bins }, (_, i) => low + (i + 0.5) * width);
    return draws.series.map((series, k) => {
      const y = series.counts[index].map((count) => count / (series.total * width));
      const common = { x, y, name: series.label, hovertemplate: "%{x:.4~g}: density %{y:.3~g}<extra></extra>", ...axes };
      return k === 0
        ? { type: "bar", width, marker: { color: c.one, line: { width: 0 } }, ...common }
        : { type: "scatter", mode: "lines", line: { shape: "hvh", color: c.two, width: 2 }, ...common };
    });
  };

  const marginal = (draws, index, c) => {
    const { low, high } = draws.quantiles[index], [from, to] = draws.range[index];
    const shapes = low === null ? [] : [{
      type: "rect", xref: "x", yref: "paper", x0: low, x1: high, y0: 0, y1: 1, layer: "below", line: { width: 0 },
      fillcolor: c.one, opacity: 0.18,
    }];
    const xaxis = axis(c, { range: [from, to], nticks: 5 }), yaxis = axis(c, { showticklabels: false, rangemode: "tozero" });
    return [histogram(draws, index, c), layout(c, { shapes, bargap: 0, xaxis, yaxis, margin: { l: 8, r: 8, t: 4, b: 28 } })];
  };

  const marginals = (Plotly, place, draws, chosen, c) => {
    for (const plot of place.querySelectorAll(".plot")) Plotly.purge(plot);
    place.replaceChildren(...chosen.map((index) => {
      const figure = document.createElement("figure"), plot = document.createElement("div");
      const text = document.createElement("figcaption"), name = document.createElement("b");
      const { mean, low, high } = draws.quantiles[index];
      name.textContent = draws.names[index];
      text.append(name, mean === null ? ": some draws are not finite" : `: mean ${number(mean)}, 90 % between ${number(low)} and ${number(high)}`);
      plot.className = "plot";
      plot.setAttribute("role", "img");
      plot.setAttribute("aria-label", `histogram of ${text.textContent}`);
      figure.append(text, plot);
      return figure;
    }));
    place.querySelectorAll(".plot").forEach((plot, i) => Plotly.newPlot(plot, ...marginal(draws, chosen[i], c), { ...config, displayModeBar: false }));
  };

  const pairs = (Plotly, place, draws, columns, chosen, c) => {
    const names = chosen.map((index) => draws.names[index]), n = chosen.length, two = draws.series.length > 1;
    place.hidden = n < 2;
    place.setAttribute("aria-label", `scatter plots of all pairs of ${names.join(", ")}`);
    if (n < 2) { Plotly.purge(place); return; }
    const gap = 0.035, size = (1 - gap * (n - 1)) / n, traces = [];
    const grid = { bargap: 0, annotations: [] };
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        if (column > row && !two) {
          const r = correlation(columns[0](chosen[column]), columns[0](chosen[row]));
          grid.annotations.push({
            xref: "paper", yref: "paper", x: column * (size + gap) + size / 2, y: 1 - row * (size + gap) - size / 2,
            text: Number.isFinite(r) ? r.toFixed(2) : "", showarrow: false, font: { color: c.soft, size: 11 + 5 * Math.abs(r || 0) },
          });
          continue;
        }
        const id = row * n + column + 1, key = id === 1 ? "" : id, bottom = 1 - row * (size + gap) - size;
        const axes = { xaxis: `x${key}`, yaxis: `y${key}` };
        const last = row === n - 1, left = column === 0, diagonal = row === column;
        grid[`xaxis${key}`] = axis(c, {
          domain: [column * (size + gap), column * (size + gap) + size], anchor: `y${key}`, nticks: 4, tickangle: 0,
          range: draws.range[chosen[column]], showticklabels: last, title: last ? { text: shortened(names[column]) } : undefined,
          ...(diagonal ? {} : { matches: `x${column * n + column + 1 === 1 ? "" : column * n + column + 1}` }),
        });
        grid[`yaxis${key}`] = axis(c, {
          domain: [bottom, bottom + size], anchor: `x${key}`, nticks: 4, showticklabels: left && !diagonal,
          title: left ? { text: shortened(names[row]), standoff: 8 } : undefined,
          ...(diagonal ? { rangemode: "tozero" } : { range: draws.range[chosen[row]] }),
          ...(diagonal || (row === 0 ? column === 1 : left) ? {} : { matches: `y${row * n + (row === 0 ? 1 : 0) + 1}` }),
        });
        if (diagonal) traces.push(...histogram(draws, chosen[row], c, axes));
        else {
          const which = column > row ? 1 : 0;
          traces.push({
            type: "scatter", mode: "markers", x: columns[which](chosen[column]), y: columns[which](chosen[row]),
            marker: { size: 3, opacity: 0.45, color: which ? c.two : c.one },
            hovertemplate: "%{x:.4~g}, %{y:.4~g}<extra></extra>", ...axes,
          });
        }
      }
    }
    const side = Math.max(150 * n, Math.min(place.parentElement.clientWidth, 220 * n));
    place.style.width = `${side}px`;
    place.style.height = `${side}px`;
    Plotly.react(place, traces, layout(c, { ...grid, margin: { l: 60, r: 10, t: 10, b: 45 } }), { ...config, responsive: false });
  };

  for (const block of document.querySelectorAll(".parameters")) {
    const draws = page.content(block), columns = draws.series.map(decode), mostPairs = 5;
    const alone = block.querySelector(".marginals"), together = block.querySelector(".pairs");
    const omitted = block.querySelector(".omitted");
    let chosen = [], waiting = false;
    const draw = () => {
      if (waiting) return;
      waiting = true;
      page.plotly().then((Plotly) => {
        waiting = false;
        const c = colors();
        marginals(Plotly, alone, draws, chosen, c);
        pairs(Plotly, together, draws, columns, chosen.slice(0, mostPairs), c);
        const more = chosen.length > mostPairs;
        omitted.textContent = more ? `Only the first ${mostPairs} of the plotted names are shown in pairs.` : "";
      }).catch(page.failed(alone));
    };
    page.redraws.push(draw);
    page.chooser(block, (indices) => { chosen = indices; draw(); });
    block.querySelector(".reset").addEventListener("click", () => { window.Plotly?.purge(together); draw(); });
  }

  for (const figure of document.querySelectorAll("figure.chart")) {
    const content = page.content(figure), plot = figure.querySelector(".plot");
    const draw = () => page.plotly().then((Plotly) => {
      const c = colors(), palette = [c.one, c.two, c.soft, c.ink];
      const traces = content.traces.map(({ color, ...trace }) => ({
        hovertemplate: "%{x:.4~g}, %{y:.5~g}<extra></extra>", ...trace, name: plain(trace.name ?? ""),
        ...(trace.type === "bar" ? { marker: { color: palette[color] } } : { line: { color: palette[color], ...trace.line } }),
      }));
      const shapes = (content.shapes ?? []).map((shape) => ({ ...shape, fillcolor: c.soft, opacity: 0.2, line: { width: 0 } }));
      Plotly.react(plot, traces, layout(c, {
        xaxis: axis(c, content.x), yaxis: axis(c, content.y), shapes, bargap: 0, showlegend: content.traces.length > 1,
        legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, margin: { l: 60, r: 12, t: 36, b: 45 },
      }), config);
    }).catch(page.failed(plot));
    page.redraws.push(draw);
    draw();
  }
}
