"use strict";
// Texts come from users' commands: they go into the page by textContent only, never as markup.
const EVERY = Number(document.documentElement.dataset.every) * 1000;
const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function put(node, text) {
  // what has not changed is left alone: a selection in it stays
  if (node.textContent !== String(text)) node.textContent = text;
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) { number /= 1024; unit += 1; }
  return `${unit && number < 100 ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function moment(seconds) {
  const when = new Date(seconds * 1000), time = element("time");
  const isToday = when.toDateString() === new Date().toDateString();
  time.textContent = isToday ? when.toLocaleTimeString() : when.toLocaleString();
  time.dateTime = when.toISOString();
  return time;
}

// what seamless-cancel takes; the style shortens it, a double click selects the whole
const checksumOf = (key) => (key.match(/-tf-([0-9a-f]{64})/) || [key, key])[1];
const many = (number, word) => `${whole.format(number)} ${word}${number === 1 ? "" : "s"}`;

// Keep the children of a node in step with a list: each has an identity, is made once and then updated.
function keep(parent, items, identity, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.id, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const id = identity(item);
    let child = old.get(id);
    old.delete(id);
    if (!child) { child = make(item); child.dataset.id = id; }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
  for (const child of old.values()) child.remove();
}

function rows(table, items, identity, cells, numeric = []) {
  const width = $(table).tHead.rows[0].cells.length;
  const make = () => {
    const row = element("tr");
    for (let i = 0; i < width; i += 1) row.append(element("td", "", numeric.includes(i) ? "n" : ""));
    return row;
  };
  keep($(table).tBodies[0], items, identity, make, (row, item) => {
    cells(item).forEach((cell, i) => typeof cell === "function" ? cell(row.cells[i]) : put(row.cells[i], cell));
  });
  $(table).closest("section").classList.toggle("empty", items.length === 0);
}

const keyCell = (key) => (cell) => {
  if (cell.title === key) return;
  cell.title = key;
  cell.replaceChildren(element("code", checksumOf(key), "key"));
};

function showCounts(data) {
  const counts = data.counts;
  const tiles = [
    ["Hits", counts.hits, "hit", "known when they were asked for; no worker was needed"],
    ...("direct" in counts ? [["Found directly", counts.direct, "hit", "known, and found by command lines without the scheduler"]] : []),
    ["Misses", counts.misses, "miss", "not known when they were asked for"],
    ["Late hits", counts.late_hits, "hit", "became known while they waited"],
    ["Cut off", counts.cut, "hit", "turned out to be known once their inputs were"],
    ["Not needed", counts.pruned, "", "only what is known would have needed them"],
    ["Run", counts.done, "", "run to their end by workers"],
    ["Failed", counts.failed, "bad", "run and failed"],
    ["Fetched", bytes(data.moved.fetched), "", "bytes that came to workers"],
    ["Stored", bytes(data.moved.stored), "", "bytes that workers have stored"],
  ];
  keep($("counts"), tiles, (tile) => tile[0], (tile) => {
    const box = element("div");
    box.title = tile[3];
    box.append(element("dt", tile[0]), element("dd"));
    return box;
  }, (box, tile) => {
    box.className = tile[1] === 0 ? "zero" : tile[2];
    put(box.lastChild, typeof tile[1] === "number" ? whole.format(tile[1]) : tile[1]);
  });
  showShare(counts);
}

function showShare(counts) {
  const direct = counts.direct ?? 0;
  const spared = counts.hits + counts.late_hits + counts.cut + direct;
  const all = counts.hits + counts.misses + direct;
  const share = all ? Math.min(1, spared / all) : 0;
  const label = all ? `${Math.round(share * 100)} % of ${many(all, "transformation")} did not have to run` : "";
  if ($("spared").textContent === label) return;
  put($("spared"), label);
  $("share").hidden = !all;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("viewBox", "0 0 1000 1");
  for (const [kind, x, width] of [["hit", 0, share * 1000], ["miss", share * 1000, (1 - share) * 1000]]) {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ class: kind, x, width, height: 1 })) bar.setAttribute(name, value);
    svg.append(bar);
  }
  $("share").replaceChildren(svg);
}

function showFailed(failures) {
  const section = $("failed").closest("section");
  section.classList.toggle("empty", failures.length === 0);
  keep($("failed"), failures, (one) => `${one.key} ${one.time}`, (one) => {
    const box = element("details"), line = element("summary");
    const status = one.exit_status === null ? "no exit status" : `exit status ${one.exit_status}`;
    const message = element("span", one.message, "message");
    line.append(element("b", one.label), element("span", status, "status"), message, moment(one.time));
    const more = element("p", "", "more");
    more.append(element("code", checksumOf(one.key)), one.worker ? ` on ${one.worker_name} (${one.worker})` : "");
    box.append(line, more, element("pre", one.stderr || "(nothing on standard error)"));
    box.lastChild.tabIndex = 0;
    return box;
  }, () => {});
}

function cacheCell(cache) {
  return (cell) => {
    if (!cell.firstChild) cell.append(element("meter"), element("span"));
    const [meter, words] = cell.children;
    meter.max = cache.limit || 1;
    meter.value = cache.bytes;
    meter.setAttribute("aria-label", "cache in use");
    put(words, ` ${bytes(cache.bytes)} of ${bytes(cache.limit)}`);
  };
}

function showNodes(nodes) {
  const list = nodes.flatMap((node) => node.workers.map((worker, i) => ({ node, worker, first: i === 0 })));
  rows("nodes", list, (one) => `${one.first} ${one.worker.address}`, ({ node, worker, first }) => [
    first ? node.node : "", first ? cacheCell(node.cache) : "", first ? whole.format(node.cache.files) : "",
    (cell) => { put(cell, worker.name); cell.title = worker.address; },
    `${worker.running} of ${many(worker.threads, "thread")}`, bytes(worker.fetched), bytes(worker.stored),
  ], [2, 4, 5, 6]);
  put($("n-nodes"), list.length ? `${nodes.length} with ${many(list.length, "worker")}` : "");
}

function showNotes(data) {
  const notes = data.unequipped.map((one) => `Worker ${one.name} (${one.worker}) runs no transformations: ${one.why}`);
  if (data.database.trouble) notes.unshift(`The result database does not answer, so nothing counts as known: ${data.database.trouble}`);
  if (data.stepped_aside) notes.unshift(`The scheduler does not look results up, workers do: ${data.stepped_aside}`);
  keep($("notes"), notes, (note) => note, (note) => element("li", note), () => {});
}

const STATES = {
  waiting: "for inputs", queued: "for a free worker", "no-worker": "for a worker that suits",
};

function showWaiting(data) {
  const states = Object.keys(STATES).filter((state) => data.states[state]);
  const number = states.reduce((sum, state) => sum + data.states[state], 0);
  keep($("states"), states, (state) => state, () => element("li"),
    (item, state) => put(item, `${whole.format(data.states[state])} ${STATES[state]}`));
  rows("waiting", data.waiting, (one) => one.key, (one) => [one.label, keyCell(one.key), one.why]);
  put($("n-waiting"), number ? whole.format(number) : "");
  $("nothing-waits").hidden = number > 0;
}

function show(data) {
  const database = data.database.trouble ? "database silent" : `database answering (${many(data.database.requests, "request")})`;
  const up = data.since ? `; up for ${duration(data.time - data.since).replace(/\..* s/, " s")}` : "";
  put($("summary"), `${many(data.workers, "worker")}, ${many(data.threads, "thread")} at ${data.scheduler}; ${database}${up}`);
  showNotes(data);
  showCounts(data);
  rows("running", data.running.rows, (one) => `${one.key} ${one.checksum} ${one.worker}`, (one) => [
    one.label, keyCell(one.key), (cell) => { put(cell, one.worker_name); cell.title = one.worker; },
    duration(one.wall), bytes(one.memory),
  ], [3, 4]);
  const missing = data.running.number - data.running.rows.length;
  put($("n-running"), data.running.number ? whole.format(data.running.number) + (missing ? `, ${missing} not shown` : "") : "");
  showWaiting(data);
  showFailed(data.failures);
  put($("n-failed"), data.counts.failed > data.failures.length
    ? `${whole.format(data.counts.failed)}, the last ${data.failures.length} shown` : data.counts.failed || "");
  showNodes(data.nodes);
  document.documentElement.dataset.time = data.time;
}

function alert_(text) {
  $("alert").hidden = !text;
  put($("alert"), text);
  document.documentElement.classList.toggle("old", Boolean(text));
}

let timer = 0;

async function update() {
  clearTimeout(timer);
  if (document.hidden) return;  // becoming visible again starts the next round
  try {
    const answer = await fetch("seamless/data.json", { cache: "no-store", signal: AbortSignal.timeout(15000) });
    if (answer.status === 401) {
      alert_("The token has to be given again: reload this page.");
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    alert_("");
  } catch (error) {
    alert_(`The scheduler does not answer (${error.message}); what you see is old. Trying again; seamless-daskserver status may say why.`);
  }
  clearTimeout(timer);
  timer = setTimeout(update, EVERY);
}

document.addEventListener("visibilitychange", update);
update();
