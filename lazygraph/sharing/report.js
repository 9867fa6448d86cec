"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const graphs = data.graphs;
  const elementsOf = (graph) => new Set((graph.formula || "").match(/[A-Z][a-z]?/g) || []);

  // Texts of the dataset become text nodes, and never markup.
  const make = (name, text, properties) => {
    const node = document.createElement(name);
    if (text !== undefined && text !== null) node.textContent = text;
    return Object.assign(node, properties || {});
  };
  const formula = (text) => {
    const node = document.createElement("span");
    for (const part of (text || "").split(/(\d+)/)) {
      if (part) node.append(/^\d+$/.test(part) ? make("sub", part) : part);
    }
    return node;
  };

  // ---- the table of graphs ----

  const has = (key) => graphs.some((graph) => graph[key] !== null);
  const columns = [{ title: "id", cell: (graph) => graph.id }];
  if (has("formula")) columns.push({ title: "formula", key: (graph) => graph.formula, cell: (graph) => formula(graph.formula) });
  if (has("atoms")) columns.push({ title: "atoms", number: true, cell: (graph) => graph.atoms });
  if (has("edges")) columns.push({ title: "edges", number: true, cell: (graph) => graph.edges });
  if (has("split")) columns.push({ title: "split", cell: (graph) => graph.split });
  data.columns.forEach((title, k) => {
    const number = graphs.every((graph) => graph.values[k] === "" || !Number.isNaN(Number(graph.values[k])));
    columns.push({ title, number, cell: (graph) => graph.values[k] });
  });

  const titles = make("tr");
  for (const column of columns) {
    const title = make("th", undefined, { scope: "col", className: column.number ? "number" : "" });
    const button = make("button", column.title, { type: "button", title: `sort by ${column.title}` });
    button.addEventListener("click", () => sort(column, title));
    title.append(button);
    titles.append(title);
  }
  $("titles").append(titles);
  const rows = graphs.map((graph) => {
    const row = make("tr");
    columns.forEach((column, k) => {
      const cell = make("td", undefined, { className: column.number ? "number" : "" });
      const content = column.cell(graph);
      if (k === 0 && graph.structure) {
        const button = make("button", content, { type: "button", title: `draw ${content}` });
        button.addEventListener("click", () => show(graph, row, true));
        cell.append(button);
      } else if (content !== null && content !== undefined) {
        cell.append(content);
        if (typeof content === "string") cell.title = content;
      }
      row.append(cell);
    });
    if (graph.structure) row.addEventListener("click", (event) => event.target.closest("button") || show(graph, row, true));
    $("rows").append(row);
    return row;
  });

  // Rows with the same value keep their order; rows without a value come last.
  const sort = (column, title) => {
    const down = title.getAttribute("aria-sort") === "ascending";
    for (const other of titles.children) other.removeAttribute("aria-sort");
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (graph) => {
      const text = column.key ? column.key(graph) : column.cell(graph);
      return text === "" || text === null ? null : column.number ? Number(text) : String(text);
    };
    const keyed = graphs.map((graph, k) => [value(graph), rows[k]]);
    keyed.sort(([one], [other]) => {
      if (one === null || other === null) return (one === null) - (other === null);
      return (one < other ? -1 : one > other ? 1 : 0) * (down ? -1 : 1);
    });
    $("rows").append(...keyed.map(([, row]) => row));
  };

  let chosen = null;
  const filter = () => {
    const wanted = $("find").value.trim().toLowerCase();
    let count = 0;
    graphs.forEach((graph, k) => {
      const text = `${graph.id} ${graph.formula || ""}`.toLowerCase();
      const good = (!chosen || elementsOf(graph).has(chosen)) && text.includes(wanted);
      rows[k].hidden = !good;
      count += good;
    });
    const all = graphs.length.toLocaleString("en");
    $("shown").textContent = chosen || wanted
      ? `${count.toLocaleString("en")} of these ${all} graphs${chosen ? ` hold ${chosen}` : ""}` : `${all} graphs`;
    $("all").hidden = !chosen && !wanted;
    for (const button of document.querySelectorAll(".element[aria-pressed]")) {
      button.setAttribute("aria-pressed", String(button.dataset.symbol === chosen));
    }
  };
  for (const button of document.querySelectorAll(".element")) {
    button.addEventListener("click", () => {
      chosen = chosen === button.dataset.symbol ? null : button.dataset.symbol;
      filter();
      const first = graphs.findIndex((graph, k) => !rows[k].hidden && graph.structure);
      if (chosen && first >= 0) show(graphs[first], rows[first], false);
    });
  }
  $("find").addEventListener("input", filter);
  $("all").addEventListener("click", () => {
    chosen = null;
    $("find").value = "";
    filter();
  });
  filter();

  // ---- the crystal ----

  const canvas = $("crystal");
  if (!canvas) return;
  const context = canvas.getContext("2d");
  let scene = null;
  let turn = null; // rotation matrix, rows are the axes of the screen
  let zoom = 1;

  const multiply = (a, b) => a.map((row) => [0, 1, 2].map((k) => row[0] * b[0][k] + row[1] * b[1][k] + row[2] * b[2][k]));
  const about = (axis, angle) => {
    const c = Math.cos(angle), s = Math.sin(angle);
    return axis === "x" ? [[1, 0, 0], [0, c, -s], [0, s, c]]
      : axis === "y" ? [[c, 0, s], [0, 1, 0], [-s, 0, c]] : [[c, -s, 0], [s, c, 0], [0, 0, 1]];
  };
  const cross = (p, q) => [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]];
  const unit = (p) => {
    const length = Math.hypot(...p) || 1;
    return p.map((x) => x / length);
  };
  // c points up and a to the right, seen a little from above and from the side.
  const first = () => {
    const [a, , c] = scene.directions;
    const y = unit(cross(c, a));
    return multiply(multiply(about("x", -1.15), about("z", -0.45)), [cross(y, c), y, c]);
  };

  // Atoms, sticks and the twelve edges of the cell, around the middle of the cell.
  const sceneOf = (structure) => {
    const [a, b, c] = [0, 3, 6].map((k) => structure.lattice.slice(k, k + 3));
    const at = (p) => [0, 1, 2].map((k) => (p[0] - 0.5) * a[k] + (p[1] - 0.5) * b[k] + (p[2] - 0.5) * c[k]);
    const atoms = [];
    structure.numbers.forEach((number, n) => {
      const place = structure.places.slice(3 * n, 3 * n + 3);
      const steps = place.map((x, k) => {
        if (!structure.pbc[k]) return [0];
        return x < 0.003 ? [0, 1] : x > 0.997 ? [0, -1] : [0];
      });
      for (const i of steps[0]) for (const j of steps[1]) for (const k of steps[2]) {
        atoms.push({ at: at([place[0] + i, place[1] + j, place[2] + k]), number });
      }
    });
    const corners = [];
    for (const i of [0, 1]) for (const j of [0, 1]) for (const k of [0, 1]) corners.push([i, j, k]);
    const edges = [];
    corners.forEach((one, m) => corners.slice(m + 1).forEach((other) => {
      if (one.filter((x, k) => x !== other[k]).length === 1) edges.push([at(one), at(other)]);
    }));
    const sticks = [];
    const longest = 1.15 * 2 * Math.max(...atoms.map((atom) => data.elements[atom.number][2]));
    for (let m = 0; m < atoms.length && atoms.length <= 1500; m += 1) {
      for (let n = m + 1; n < atoms.length; n += 1) {
        const d = [0, 1, 2].map((k) => atoms[n].at[k] - atoms[m].at[k]);
        if (Math.abs(d[0]) > longest || Math.abs(d[1]) > longest) continue;
        const most = 1.15 * (data.elements[atoms[m].number][2] + data.elements[atoms[n].number][2]);
        const length = Math.hypot(...d);
        if (length < most && length > 0.3) sticks.push([m, n]);
      }
    }
    const points = [...atoms.map((atom) => atom.at), ...edges.flat()];
    const radius = Math.max(...points.map((p) => Math.hypot(...p))) + 0.8;
    return { atoms, edges, sticks, radius };
  };

  const shade = (color, amount) => {
    const parts = [1, 3, 5].map((k) => parseInt(color.slice(k, k + 2), 16));
    const end = amount < 0 ? 0 : 255;
    return `rgb(${parts.map((x) => Math.round(x + (end - x) * Math.abs(amount))).join(",")})`;
  };

  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!scene) return;
    const scale = (Math.min(width, height) / 2 / scene.radius) * 0.96 * zoom;
    const project = (p) => {
      const [x, y, z] = turn.map((row) => row[0] * p[0] + row[1] * p[1] + row[2] * p[2]);
      return [width / 2 + x * scale, height / 2 - y * scale, z];
    };
    const style = getComputedStyle(document.documentElement);
    const edge = style.getPropertyValue("--edge"), line = style.getPropertyValue("--text");
    const atoms = scene.atoms.map((atom) => ({ ...atom, at: project(atom.at) }));
    const things = [];
    for (const [one, other] of scene.edges) {
      const p = project(one), q = project(other);
      things.push({ depth: Math.min(p[2], q[2]) - 0.5, paint: () => {
        context.strokeStyle = edge;
        context.lineWidth = 1.2;
        context.beginPath();
        context.moveTo(p[0], p[1]);
        context.lineTo(q[0], q[1]);
        context.stroke();
      } });
    }
    for (const [m, n] of scene.sticks) {
      const p = atoms[m].at, q = atoms[n].at;
      const middle = [0, 1, 2].map((k) => (p[k] + q[k]) / 2);
      for (const [end, atom] of [[p, atoms[m]], [q, atoms[n]]]) { // each half in the colour of its atom
        things.push({ depth: (end[2] + middle[2]) / 2, paint: () => {
          context.strokeStyle = shade(data.elements[atom.number][1], -0.15);
          context.lineWidth = Math.max(1.5, 0.22 * scale);
          context.beginPath();
          context.moveTo(end[0], end[1]);
          context.lineTo(middle[0], middle[1]);
          context.stroke();
        } });
      }
    }
    for (const atom of atoms) {
      const [symbol, color, radius] = data.elements[atom.number];
      const [x, y, z] = atom.at;
      const r = Math.max(2.5, 0.42 * radius * scale);
      things.push({ depth: z, paint: () => {
        const light = context.createRadialGradient(x - r * 0.35, y - r * 0.35, r * 0.1, x, y, r);
        light.addColorStop(0, shade(color, 0.6));
        light.addColorStop(0.45, color);
        light.addColorStop(1, shade(color, -0.35));
        context.fillStyle = light;
        context.beginPath();
        context.arc(x, y, r, 0, 2 * Math.PI);
        context.fill();
        context.strokeStyle = shade(color, -0.55);
        context.lineWidth = 0.7;
        context.stroke();
      } });
      if (r > 13 && scene.atoms.length <= 60) { // in front of the sticks of its atom, behind atoms that are nearer
        things.push({ depth: z + 0.9, paint: () => {
          context.fillStyle = "#000";
          context.strokeStyle = "rgba(255,255,255,0.65)";
          context.lineWidth = 2.5;
          context.font = `600 ${Math.min(15, r * 0.8)}px system-ui, sans-serif`;
          context.textAlign = "center";
          context.textBaseline = "middle";
          context.strokeText(symbol, x, y);
          context.fillText(symbol, x, y);
        } });
      }
    }
    things.sort((one, other) => one.depth - other.depth);
    for (const thing of things) thing.paint();
    axes(line, height);
  };

  // The directions of the lattice vectors, in the lower left corner.
  const axes = (color, height) => {
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    scene.directions.forEach((direction, k) => {
      const [x, y] = turn.map((row) => row[0] * direction[0] + row[1] * direction[1] + row[2] * direction[2]);
      context.strokeStyle = context.fillStyle = color;
      context.lineWidth = 1.4;
      context.beginPath();
      context.moveTo(40, height - 40);
      context.lineTo(40 + 22 * x, height - 40 - 22 * y);
      context.stroke();
      context.fillText("abc"[k], 40 + 31 * x, height - 40 - 31 * y);
    });
  };

  function show(graph, row, asked) {
    if (!canvas) return;
    scene = sceneOf(graph.structure);
    scene.directions = [0, 3, 6].map((k) => unit(graph.structure.lattice.slice(k, k + 3)));
    turn = first();
    zoom = 1;
    for (const other of rows) other.removeAttribute("aria-current");
    row.setAttribute("aria-current", "true");
    const lengths = [0, 3, 6].map((k) => Math.hypot(...graph.structure.lattice.slice(k, k + 3)).toFixed(2));
    const count = graph.structure.numbers.length;
    const said = `${count} atom${count === 1 ? "" : "s"}, cell ${lengths.join(" × ")} Å`;
    $("what").replaceChildren(graph.id, " ", formula(graph.formula), make("br"), make("span", said, { className: "note" }));
    canvas.setAttribute("aria-label", `Crystal ${graph.id}, ${graph.formula || ""}, ${said}`);
    const counts = new Map();
    for (const number of graph.structure.numbers) counts.set(number, (counts.get(number) || 0) + 1);
    $("atoms").replaceChildren(...[...counts].map(([number, count]) => {
      const node = make("span"), dot = make("i");
      dot.style.background = data.elements[number][1];
      node.append(dot, `${data.elements[number][0]} ${count}`);
      return node;
    }));
    draw();
    if (asked) canvas.scrollIntoView({ block: "nearest" });
  }

  const rotate = (right, down) => {
    turn = multiply(multiply(about("x", down), about("y", right)), turn);
    draw();
  };
  const nearer = (factor) => {
    zoom = Math.min(8, Math.max(0.3, zoom * factor));
    draw();
  };
  const reset = () => {
    turn = first();
    zoom = 1;
    draw();
  };
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    held = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held || !scene) return;
    rotate((event.clientX - held[0]) * 0.01, (event.clientY - held[1]) * 0.01);
    held = [event.clientX, event.clientY];
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { held = null; });
  const keys = {
    ArrowLeft: () => rotate(-0.12, 0), ArrowRight: () => rotate(0.12, 0), ArrowUp: () => rotate(0, -0.12),
    ArrowDown: () => rotate(0, 0.12), "+": () => nearer(1.15), "=": () => nearer(1.15), "-": () => nearer(1 / 1.15),
    0: reset, Home: reset,
  };
  canvas.addEventListener("keydown", (event) => {
    if (!scene || !keys[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    keys[event.key]();
    event.preventDefault();
  });
  $("nearer").addEventListener("click", () => nearer(1.25));
  $("farther").addEventListener("click", () => nearer(0.8));
  $("reset").addEventListener("click", reset);
  new ResizeObserver(draw).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const start = graphs.findIndex((graph) => graph.structure);
  if (start >= 0) show(graphs[start], rows[start], false);
})();
