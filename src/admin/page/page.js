// The page: it asks /dashboard once a second while it is visible, and keeps 15 minutes of history.
// Clients choose names, so every text becomes a text node: nothing here parses HTML.

const WINDOW = 5000, HISTORY = 900000, KEPT = 200, DAY = 86400;
const $ = id => document.getElementById(id);
const extra = {}, counters = new Map();
let board, totals, rows, rules, live = {}, order = [], token = "", tick = 0, sort = "busy", paused, failed;

// -- elements --

/** An element `tag.class` with attributes, if the first child is an object. What is null or false is left out. */
function h(tag, ...children) {
	const attributes = children[0]?.constructor == Object ? children.shift() : {};
	const [name, kind] = tag.split(/\.(.*)/), svg = name == "svg" || name == "path";
	const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
	if (kind) element.setAttribute("class", kind.replaceAll(".", " "));
	for (const [key, value] of Object.entries(attributes)) {
		if (value != null && value !== false) element.setAttribute(key, value);
	}
	element.append(...children.flat(9).filter(it => it != null && it !== false));
	return element;
}

/** Makes a shown element equal to a new one. What stays keeps its focus, and what was typed. */
function patch(old, next) {
	if (old.nodeName != next.nodeName) return old.replaceWith(next);
	if (old.nodeType == 3) { if (old.data != next.data) old.data = next.data; return; }
	for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
	for (const { name, value } of next.attributes) if (old.getAttribute(name) != value) old.setAttribute(name, value);
	const key = node => node.dataset?.key, keyed = new Map();
	for (const node of old.childNodes) if (key(node)) keyed.set(key(node), node);
	let at = old.firstChild;
	for (const child of [...next.childNodes]) {
		const same = key(child) ? keyed.get(key(child)) : at && !key(at) && at;
		if (!same) { old.insertBefore(child, at); continue; }
		if (same == at) at = at.nextSibling; else old.insertBefore(same, at);
		patch(same, child);
	}
	while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
}

function show(id, ...children) {
	const focused = document.activeElement, next = $(id).cloneNode(false);
	next.append(...children.flat(9).filter(Boolean));
	patch($(id), next);
	if (focused != document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}
const link = (text, view, query) => h("a", { href: "#" + view + (query ? "?" + new URLSearchParams(query) : "") }, text);
const button = (text, what, args, danger) =>
	h("button" + (danger ? ".danger" : ""), { type: "button", "data-act": what, "data-args": JSON.stringify(args ?? []) }, text);
const title = (text, note, ...links) => h("h2", text, note && h("small", note), links);
const dim = text => h("span.dim", text);
const loud = (is, text, kind = "bad") => is ? h("span." + kind, text) : text;
const word = (kind, text) => h("span.state." + kind, text);
const upper = text => text[0].toUpperCase() + text.slice(1);
const part = encodeURIComponent;
const join = (...list) => list.flat().filter(Boolean).join(", ");
const may = () => board.changes.allowed && !failed;

// -- numbers --

function number(it) {
	if (it == null) return "–";
	if (it >= 1e6) return (it / 1e6).toFixed(1) + "M";
	if (it >= 1e4) return (it / 1e3).toFixed(1) + "k";
	return it >= 9.95 || it % 1 == 0 ? Math.round(it).toLocaleString("en") : it.toFixed(1);
}
function ms(it) {
	if (it == null) return "–";
	if (it < 1) return Math.round(it * 1000) + " µs";
	return it < 10 ? it.toFixed(1) + " ms" : it < 1000 ? Math.round(it) + " ms" : (it / 1000).toFixed(1) + " s";
}
function bytes(it) {
	if (it == null) return "–";
	const power = Math.min(3, Math.floor(Math.log10(Math.max(it, 1)) / 3));
	return (it / 1000 ** power).toFixed(power && 1) + " " + ["B", "kB", "MB", "GB"][power];
}
const percent = it => it == null ? "–" : (it * 100).toFixed(it > 0 && it < 0.0995 ? 1 : 0) + "%";
function time(seconds) {
	if (seconds < 90) return Math.round(seconds) + " s";
	if (seconds < 5400) return Math.round(seconds / 60) + " min";
	return seconds < 2 * DAY ? Math.round(seconds / 3600) + " h" : Math.round(seconds / DAY) + " days";
}
const count = (n, what) => number(n) + " " + what + (n == 1 ? "" : "s");
const rate = it => number(it) + " a second";
const clock = at => new Date(at).toLocaleTimeString("en-GB");
const slow = it => loud(it >= 100, ms(it), "warn");
const failing = it => loud(it > 0.01, percent(it));
const some = it => loud(it, number(it));
const expiry = it => it == null ? "" : loud(it < 14 * DAY, it > 0 ? time(it) + " left" : "has expired", it < 3 * DAY ? "bad" : "warn");

// -- rates --

/** Adds a reading of counters. `now` has what happened a second, over the last five seconds. */
function measure(key, read, t, began) {
	const kept = counters.get(key) ?? { past: began == null ? [] : [{ t: began }], points: [] };
	counters.set(key, kept);
	const { past, points } = kept;
	past.push({ ...read, t });
	while (past.length > 2 && past[1].t <= t - WINDOW) past.shift();
	const from = past[0], seconds = (t - from.t) / 1000;
	if (seconds <= 0) return kept;
	const more = field => Math.max(0, (read[field] ?? 0) - (from[field] ?? 0)) / seconds;
	const held = new Map(read.durations);
	for (const [bucket, n] of from.durations ?? []) held.set(bucket, held.get(bucket) - n);
	const ops = more("count"), errors = more("errors");
	kept.now = {
		ops, errors, refused: more("refused"), busy: more("total_ms"), bytes: more("request_bytes") + more("reply_bytes"),
		open: read.open, share: ops ? errors / ops : null, p50: quantile(held, 0.5), p99: quantile(held, 0.99),
	};
	points.push({ t, ...kept.now });
	while (points[0].t < t - HISTORY) points.shift();
	return kept;
}

/** The duration in ms that a share of the values do not exceed. */
function quantile(held, q) {
	const bounds = board.bounds_ms, all = [...held.values()].reduce((sum, n) => sum + n, 0);
	let below = 0;
	for (let i = 0; all > 0 && i < bounds.length; i++) {
		const n = held.get(i) ?? 0, lower = i ? bounds[i - 1] : 0;
		if (n > 0 && below + n >= q * all) return lower + (bounds[i] - lower) * Math.max(0, (q * all - below) / n);
		below += n;
	}
	return all > 0 ? bounds.at(-1) : null;
}

const id = (...names) => names.join("\u0000");

function take(next) {
	const before = board?.uptime_ms, t = next.uptime_ms;
	if (before == t) return;
	if (before > t) counters.clear(); // A new process counts from zero.
	// What the last answer did not have began after it.
	const began = before < t && !board.operations_left_out ? before : null;
	board = next;
	totals = measure("totals", { ...board.totals, open: board.listeners.reduce((sum, it) => sum + (it.connections ?? 0), 0) }, t);
	rows = board.operations.map(row => {
		const key = id(row.listener, row.protocol, row.operation, row.resource);
		return { ...row, key, kept: measure(key, row, t, began) };
	});
	rules = policies().map(it => ({ ...it, kept: measure("policy " + it.name, { count: it.refused }, t, began) }));
	for (const [key, { past }] of counters) if (past.at(-1).t < t - HISTORY) counters.delete(key);
}

/** The policies, and what else has refused operations, such as circuit breakers. */
function policies() {
	const list = board.policies.map(it => ({ ...it, reasons: new Set() }));
	for (const row of board.refusals) {
		let it = list.find(it => it.name == row.policy);
		if (!it) list.push(it = { name: row.policy, kind: "built in", always: true, refused: 0, would_refuse: 0, modified: 0, reasons: new Set() });
		if (it.always) it[row.dry_run ? "would_refuse" : "refused"] += row.count;
		it.reasons.add(row.reason);
	}
	return list;
}

// -- tables --

/** How a column shows a value: by the letter after its name. */
const SHOWN = { n: number, m: slow, b: bytes, t: time, p: failing };

/** A table of `columns`: "Name.kind=field, …", with a `!` before fields to sort by. Empty ones are left out. */
function table(columns, rows, empty) {
	if (!rows?.length) return h("div.scroll", h("p.empty", rows ? empty : "Asking the proxy…"));
	columns = columns.split(", ").map(it => {
		const [, text, kind = "", sorts, field] = it.match(/(.*?)(?:\.(\w+))?=(!?)(.*)/);
		return { text, field, sorts, shown: SHOWN[kind] ?? (it => it), kind: SHOWN[kind] ? "n" : kind };
	}).filter(({ field, sorts }) => sorts || rows.some(row => row[field]?.length !== 0 && row[field] != null));
	const head = ({ text, field, sorts, kind }) => {
		const by = sorts && field == sort, up = field == "operation";
		return h("th." + kind, { scope: "col", "aria-sort": by && (up ? "ascending" : "descending") }, sorts ? button(text + (by ? up ? " ▲" : " ▼" : ""), "sort", [field]) : text);
	};
	const cell = (row, { text, field, kind, shown }) => {
		const it = row[field];
		return h("td." + kind, { "data-label": text }, it instanceof Node || Array.isArray(it) || typeof it == "string" ? it : shown(it));
	};
	const row = it => h("tr" + (it.group ? ".group" : ""), { "data-key": it.key },
		it.group ? h("td", { colspan: columns.length }, it.group) : columns.map(column => cell(it, column)));
	return h("div.scroll", h("table", h("thead", h("tr", columns.map(head))), h("tbody", rows.map(row))));
}

/** A line of one field's history. It has gaps where nobody looked. */
function spark(kept, field, text, kind = "") {
	const points = kept?.points ?? [], end = board.uptime_ms, slots = [];
	const span = Math.min(HISTORY, Math.max(60000, end - (points[0]?.t ?? end)));
	for (const point of points) {
		const slot = Math.min(119, Math.floor((1 - (end - point.t) / span) * 120));
		if (slot >= 0) slots[slot] = Math.max(slots[slot] ?? 0, point[field] ?? 0);
	}
	const top = Math.max(0, ...slots.filter(it => it != null));
	let path = "", last = -99;
	slots.forEach((value, x) => {
		path += (x - last > 12 ? "M" : "L") + x + " " + (22 - 20 * value / (top || 1)).toFixed(1);
		last = x;
	});
	const label = path ? `the last ${time(span / 1000)}, at most ${text(top)}` : "no history";
	return h("svg.spark." + kind, { viewBox: "0 0 120 24", preserveAspectRatio: "none", role: "img", "aria-label": label }, h("path", { d: path || "M0 0" }));
}

const tile = (name, value, unit, kept, field, text, kind) =>
	h("div.tile", h("span", name), h("b", value, h("small", " " + unit)), field && spark(kept, field, text, kind));
const operation = it => link(it.operation, "operation", { listener: it.listener, operation: it.operation, resource: it.resource ?? "" });
const what = it => [operation(it), " ", it.resource];
const under = (tab, text) => [link(upper(tab), tab), " › " + text];
const users = it => Object.entries(it.used_by).flat().join(" ");
const ends = (kind, name) => board.certificates.filter(it => it.used_by[kind] == name).map(it => it.expires_in_seconds).sort((a, b) => a - b)[0];

// -- problems --

function why({ state, ejection, last_check, role, lag_seconds, last_error }) {
	if (state == "drained") return "by an operator";
	if (state == "ejected" && ejection) return ejection.reason + (ejection.seconds_left == null ? "" : `; ${time(ejection.seconds_left)} left`);
	if (state == "unhealthy") return last_check?.words ?? "health checks fail";
	return join(role != "unknown" && role, lag_seconds > 0 && lag_seconds + " s behind", last_error);
}

/** [is bad, what, text], the worst first. */
function problems() {
	const found = [], add = (bad, what, ...text) => found.push([bad, what, text]);
	if (!board.ready) add(false, "Draining", "This proxy accepts no new connections, and ends when what is under way has ended.");
	if (board.last_reload?.result == "failed") add(true, "Reload failed", board.last_reload.summary, " The config from before stays in use.");
	for (const { name, endpoints, endpoints_in_use: used, endpoints_in_all: all, circuit_breaker: limit, panic, pause, dns } of board.clusters) {
		const out = endpoints.filter(it => it.state != "in_use");
		if (!all) add(true, "No endpoint", `${name}: ${dns?.last_error ?? "its names can't be looked up"}`);
		else if (used < all) {
			add(!used || out.some(it => it.state != "drained"), "Out of use", `${name}: ${used} of ${all} endpoints are in use. `,
				out.slice(0, 3).map(it => `${it.name} ${it.state} for ${time(it.state_seconds)} (${why(it)}). `), all - used > 3 && `${all - used - 3} more.`);
		}
		if (panic) add(true, "Panic", `${name}: too few endpoints are well, so operations go to all of them`);
		if (pause) add(false, "Paused", `${name}: ${count(pause.waiting, "operation")} wait, for ${time(pause.resumes_in_seconds)} at most`);
		for (const what of ["operations", "connections"]) {
			if (limit["max_" + what] && limit[what] >= limit["max_" + what]) add(true, "At its limit", `${name} has ${limit[what]} ${what}`);
		}
		if (limit.pending) add(false, "Waiting", `${name}: ${count(limit.pending, "client")} wait for a connection`);
	}
	for (const pool of board.pools) {
		const waiting = pool.endpoints.reduce((sum, it) => sum + it.waiting, 0);
		if (waiting) add(true, "Pool is full", link(pool.cluster, "pools"), `: ${count(waiting, "operation")} wait for a connection`);
	}
	for (const { name, connections: open, max_connections: most } of board.listeners) {
		if (open >= 0.9 * most) add(open >= most, "Nearly full", `${name} has ${open} of ${most} connections`);
	}
	for (const row of rows) {
		const { share, errors } = row.kept.now ?? {};
		if (share >= 0.05 && errors >= 0.2) add(share >= 0.5, "Errors", operation(row), ` ${row.resource}: ${percent(share)} fail or are rejected, ${rate(errors)}`);
	}
	for (const { name, kept, reasons, expires_in_ms: left } of rules) {
		if (kept.now?.ops > 0) add(false, "Refusing", `${name} refuses ${rate(kept.now.ops)} (${join(...reasons)})`);
		if (left) add(false, "Fault", `${name} is injected for ${time(left / 1000)} more`);
	}
	for (const it of board.certificates.filter(it => it.expires_in_seconds < 14 * DAY)) {
		add(it.expires_in_seconds < 3 * DAY, "Certificate", link(it.names[0] ?? it.subject, "tls"), " of ", users(it), ": ", expiry(it.expires_in_seconds));
	}
	if (board.findings) add(false, "Queries", link(count(board.findings, "finding"), "shapes"), " about programs that query badly");
	return found.sort((a, b) => b[0] - a[0]).slice(0, 20);
}

// -- views --

const SHAPES = "/shapes?limit=1000";
const views = {
	now: () => [
		title("What needs attention"), attention(problems()),
		title("Clusters", "errors and P99 of the last interval", link("pools", "pools"), link("certificates", "tls")),
		table("Endpoint.name=name, State=state, Since.t=state_seconds, Why=why, Under way.n=active_operations, Connections.n=active_connections, Errors.p=share, P99.m=p99_ms, Certificate=ends, .act=act",
			board.clusters.flatMap(clusterRows), "No cluster is configured."),
		title("Listeners", "", link("all sessions", "sessions")),
		table("Listener.name=name, Address=address, Protocol=protocol, Clusters=to, Connections.n=open, Certificate=ends, .act=act", board.listeners.map(listenerRow), "No listener is configured."),
		title("Refusals by policy", "in their order"),
		table("Policy.name=name, Kind=kind, State=mode, Refused now.n=now, History=history, Refused in all.n=refused, Modified.n=modified, Would refuse.n=would_refuse, Reasons=why, .act=act",
			rules.map(policyRow), "No policy is configured, and nothing was refused."),
		title("This proxy", board.changes.why ?? (may() ? "" : "enter the token to change things")),
		table("Version=version, Up.n=up, State=state, Last reload=reload, .act=act", [{ ...board, up: time(board.uptime_ms / 1000), state: readiness(), reload: reload(board.last_reload),
			act: [may() && board.ready && button("Drain this proxy", "drain", [], true)] }]),
	],
	operations: () => [
		title("Operations", "what takes most time comes first; the last 5 s, and up to 15 min", link("query shapes", "shapes"), link("call sites", "callsites")),
		table("Operation.name=!operation, Resource.name=resource, Listener=listener, Ops/s.n=!ops, History=history, Errors.p=!share, P50.m=!p50, P99.m=!p99, P99 history=slowness, Bytes/s.b=!bytes, Time.n=!busy",
			ordered().map(operationRow), "No operation has passed through so far."),
		board.operations_left_out > 0 && h("p.note", `${count(board.operations_left_out, "operation")} that take less time now are left out.`),
	],
	operation(query) {
		const of = it => it.listener == query.listener && it.operation == query.operation && (it.resource ?? "") == query.resource;
		const row = rows.find(of), kept = row?.kept, now = kept?.now ?? {}, last = (live.rows ?? []).filter(of);
		const outcomes = Object.entries(row?.outcomes ?? {}).map(([name, n]) => `${number(n)} ${name}`);
		return [
			title(under("operations", `${query.operation} ${query.resource}`), `on ${query.listener}`),
			h("div.tiles", tile("Operations", number(now.ops), "a second", kept, "ops", rate), tile("Errors", percent(now.share), "", kept, "share", percent, "bad"),
				tile("P99", ms(now.p99), "", kept, "p99", ms), tile("Since the start", number(row?.count), join(outcomes))),
			title("Query shapes", "since the start, without values"), shapeTable(extra[SHAPES]?.shapes.filter(of)),
			title("Call sites", "the code that sends it"), siteTable(extra["/callsites"]?.filter(of)),
			title("Clients", "of its operations while this page is open", link("sessions", "sessions", { listener: query.listener })),
			table("Client.name=peer, Application=app, User=user, Seen.n=seen, Not ok.n=bad, Slowest.m=slowest", clients(last), "Waiting for the next operation."),
			title("Last operations", "", link("watch live", "live", { operation: query.operation, resource: query.resource })), liveTable(last.slice(0, 20)),
		];
	},
	live: query => [
		title("Live", "at most 100 operations a second, recorded only while this view is open"),
		h("form", { id: "filter" },
			h("label", "Outcome", h("select", { name: "outcome" }, ["", "not_ok", "ok", "rejected", "failed", "lost", "cancelled"].map(it =>
				h("option", { value: it, selected: it == (query.outcome ?? "") && "" }, it.replace("_", " ") || "any")))),
			[["slower_than", "100ms"], ["resource", "shop.*"], ["operation", "find"], ["listener", ""]].map(([name, placeholder]) =>
				h("label", upper(name.replace("_", " ")), h("input", { name, placeholder, size: 10, value: query[name] ?? "" }))),
			h("label", h("input", { type: "checkbox", name: "housekeeping", value: "true", checked: query.housekeeping && "" }), "hello, ping, log-ins")),
		h("p.bad", live.wrong), liveTable(live.rows ?? []),
	],
	sessions: query => [
		title(under("now", "Sessions " + (query.listener ? "of " + query.listener : "")), "the oldest first", query.listener && link("of all listeners", "sessions")),
		table("Client.name=peer, Listener=listener, Under way=what, Cluster=cluster, Endpoint=endpoint, Age.t=age, Idle.t=idle, Received.b=request_bytes, Sent.b=reply_bytes",
			extra[sessions(query)]?.map(it => ({ ...it, key: it.id, what: [it.operation, " ", it.resource], age: it.age_ms / 1000, idle: it.idle_ms / 1000 })),
			"No client is connected."),
	],
	pools: () => [
		title(under("now", "Pools"), "connections that operations share"),
		table("Endpoint.name=endpoint, In use.n=used, Most.n=most, Idle.n=idle, Being opened.n=connecting, Wait for news.n=awaiting, Operations that wait.n=wait",
			board.pools.flatMap(({ cluster, max_pool_size: most, endpoints }) => [{ key: cluster, group: cluster },
				...endpoints.map(it => ({ ...it, key: id(cluster, it.endpoint), most, used: loud(it.active >= most, number(it.active), "warn"), wait: some(it.waiting) }))]),
			"No cluster has a pool."),
	],
	tls: () => [
		title(under("now", "Certificates"), "the one that ends first comes first"),
		table("Names.name=for, Used by=by, Ends.n=ends, Not after=not_after, Issuer=issuer, File=file", board.certificates.toSorted((a, b) => a.expires_in_seconds - b.expires_in_seconds).map(it => ({
			...it, key: users(it) + it.fingerprint, for: join(it.names) || it.subject, by: users(it), ends: expiry(it.expires_in_seconds) })),
			"No listener and no cluster has a certificate."),
	],
	shapes: () => [
		title(under("operations", "Findings"), "programs that query badly"),
		table("Finding.name=name, Where=what, Query.query=query, Times.n=count, Advice=advice, Clients=from, Last seen=last", extra["/findings"]?.map(it => ({
			...it, key: id(it.finding, it.shape, it.listener), name: upper(it.finding.replaceAll("_", " ")), what: what(it), advice: it.reason ?? it.advice, from: join([it.callsites, it.apps, it.peers].flat().slice(0, 4)), last: clock(it.last_seen) })),
			"Nothing was found."),
		title("Query shapes", "what takes most time comes first"), shapeTable(extra[SHAPES]?.shapes),
	],
	callsites: () => [
		title(under("operations", "Call sites"), "places in clients' programs"), siteTable(extra["/callsites"]),
	],
};

const sessions = query => "/sessions?limit=500" + (query.listener ? "&listener=" + part(query.listener) : "");
/** What views ask for besides the dashboard, every third second. */
const EXTRA = { operation: () => [SHAPES, "/callsites"], shapes: () => [SHAPES, "/findings"], callsites: () => ["/callsites"], sessions: query => [sessions(query)] };
const TABS = { operation: "operations", shapes: "operations", callsites: "operations" };

const readiness = () => board.ready ? word("ok", "ready") : word("warn", "draining");
const attention = found => found.length ?
	h("ul.problems", found.map(([bad, what, text]) => h("li." + (bad ? "is-bad" : ""), h("b", what), text)))
	: h("p.fine", "Nothing: every endpoint is in use, no policy refuses, and no certificate ends soon.");

const KINDS = { in_use: "ok", drained: "warn", ejected: "bad", unhealthy: "bad" };
function clusterRows({ name, lb_policy, endpoints, endpoints_in_use: used, endpoints_in_all: all, circuit_breaker: limit, pause, switched_to }) {
	const limits = ["connections", "operations"].map(it => limit["max_" + it] && `${limit[it]} of ${limit["max_" + it]} ${it}`);
	const words = join(`${used} of ${all} in use`, lb_policy.replaceAll("_", " "), pause && "paused", switched_to && "switched to " + switched_to, limits);
	const pooled = board.pools.some(it => it.cluster == name), own = ends("cluster", name);
	const group = [h("b", name), " ", loud(used < all, words, used ? "warn" : "bad"), pooled && [" · ", link("pool", "pools")], own != null && [" · own certificate: ", expiry(own)]];
	const act = it => it.state == "in_use" || it.state == "unhealthy" ? button("Drain", "endpoint", [name, it.name, "drained", used, all]) : button("Return", "endpoint", [name, it.name, "in_use"]);
	const rows = endpoints.map(it => ({
		...it, ...it.last_interval, key: id(name, it.address), name: it.name == it.address ? it.name : `${it.name} (${it.address})`, state: word(KINDS[it.state] ?? "dim", it.state.replace("_", " ")),
		why: why(it), share: it.last_interval.success_rate == null ? null : 1 - it.last_interval.success_rate / 100, ends: expiry(it.certificate_expires_in_seconds), act: [may() && act(it)] }));
	if (all > rows.length) rows.push({ key: id(name, "more"), group: dim(`${all - rows.length} more are in use`) });
	return [{ key: name, group }, ...rows];
}

const listenerRow = ({ name, connections: open, max_connections: most, clusters, ...it }) => ({ ...it, key: name, name, to: join(clusters ?? []), ends: expiry(ends("listener", name)),
	open: [loud(open >= 0.9 * most, number(open), "warn"), dim(" of " + number(most))], act: [link("sessions", "sessions", { listener: name }), " · ", link("live", "live", { listener: name })] });

function policyRow(it) {
	const ops = it.kept.now?.ops ?? 0, mode = it.always ? "always" : !it.enabled ? "off" : it.dry_run ? "dry run" : "on";
	const to = { on: { enabled: true, dry_run: false }, "dry run": { enabled: true, dry_run: true }, off: { enabled: false } };
	const act = may() && !it.always && !it.id && Object.keys(to).filter(it => it != mode).map(text => button(upper(text), "policy", [it.name, to[text], text]));
	return { ...it, key: it.name, mode: [word({ off: "dim", "dry run": "warn" }[mode] ?? "ok", mode), it.changed && dim(" changed")], now: loud(ops > 0, number(ops) + "/s", "warn"),
		history: spark(it.kept, "ops", rate, "bad"), why: join(...it.reasons), act: [act] };
}

const reload = last => !last ? dim("none since the start") : [word({ ok: "ok", failed: "bad" }[last.result] ?? "dim", last.result),
	` ${last.at} ${last.by ? "by " + last.by : ""}: ${last.summary ?? ""}`, [last.errors ?? []].flat().map(it => h("div.bad", it.message ?? it))];

/** The rows in their order, which stays while one of them is pointed at. */
function ordered() {
	const name = row => row.operation + row.resource, of = row => row.kept.now?.[sort] ?? -1;
	const sorted = rows.toSorted((a, b) => sort == "operation" ? name(a).localeCompare(name(b)) : of(b) - of(a) || b.count - a.count);
	if ($("view").querySelector("tbody:hover, tbody:focus-within") && order.sort == sort) {
		const place = row => order.indexOf(row.key) >>> 0;
		sorted.sort((a, b) => place(a) - place(b));
	}
	order = Object.assign(sorted.map(row => row.key), { sort });
	return sorted;
}

const operationRow = row => ({ ...row, ...row.kept.now, operation: operation(row), resource: row.resource || dim("–"), history: spark(row.kept, "ops", rate), slowness: spark(row.kept, "p99", ms),
	busy: percent(row.kept.now ? row.kept.now.busy / (totals.now.busy || 1) : null) });

const shapeTable = shapes => table("Operation.name=what, Query.query=query, Calls.n=calls, Errors.n=bad, P50.m=p50_ms, P99.m=p99_ms, Time.n=time, Documents.n=documents, Applications=from, Call sites=at",
	shapes?.slice(0, 100).map(it => ({ ...it, key: id(it.listener, it.operation, it.resource, it.shape), what: what(it), bad: some(it.errors), time: ms(it.total_ms), from: join(it.apps), at: join(it.callsites) })),
	"No shape of a query was counted: MongoDB's commands have them.");

const siteTable = sites => table("Call site.name=callsite, Operation=what, Calls.n=count, P50.m=p50_ms, P99.m=p99_ms, Time.n=time",
	sites?.slice(0, 100).map(it => ({ ...it, key: id(it.listener, it.operation, it.resource, it.callsite), what: what(it), time: ms(it.total_ms) })), "No call site is known: clients name them in comments.");

const liveTable = rows => table("Ended=at, Outcome=outcome, Operation.name=what, Duration.m=duration_ms, Bytes.b=bytes, Client=from, Endpoint=endpoint, Why=why", rows.map(it => ({
	...it, key: it.id, at: clock(it.time_ms), outcome: word({ ok: "ok", cancelled: "dim" }[it.outcome] ?? "bad", it.outcome), what: what(it), bytes: it.request_bytes + it.reply_bytes,
	duration_ms: it.long_poll ? dim(ms(it.duration_ms) + " (waits)") : it.duration_ms, from: join(it.app, it.user, it.callsite, it.peer),
	why: join(it.reason, it.code, it.policies.map(it => "policy " + it), it.dry_run.map(it => "dry run of " + it)) })), paused ? "Paused." : "Waiting for the next operation.");

function clients(rows) {
	const all = new Map();
	for (const it of rows) {
		const key = id(it.peer, it.app, it.user), { seen = 0, bad = 0, slowest = 0 } = all.get(key) ?? {};
		all.set(key, { ...it, key, seen: seen + 1, bad: bad + (it.outcome != "ok"), slowest: Math.max(slowest, it.duration_ms) });
	}
	return [...all.values()].sort((a, b) => b.seen - a.seen).slice(0, 30);
}

// -- drawing --

function route() {
	const [view, query] = location.hash.slice(1).split("?");
	return [Object.hasOwn(views, view) ? view : "now", Object.fromEntries(new URLSearchParams(query))];
}

function draw() {
	const [view, query] = route(), tab = TABS[view] ?? (view == "live" || view == "operations" ? view : "now"), now = totals?.now ?? {};
	$("banner").hidden = !failed;
	$("banner").textContent = failed && `No answer from the proxy since ${clock(failed.since)}: ${failed.why}. What is shown is old.`;
	show("head", h("h1", "Tollgate", h("small", location.host)),
		h("nav", { "aria-label": "Views" }, ["now", "operations", "live"].map(it => h("a", { href: "#" + it, "aria-current": it == tab && "page" }, upper(it)))),
		h("div.right", failed ? word("bad", "no answer") : board && readiness(), board && dim("as of " + clock(board.time_ms)),
			board?.changes.needs_token && !board.changes.allowed && button("Enter token", "token"), button(paused ? "Go on" : "Pause", "pause")));
	document.title = `${failed ? "No answer" : upper(view)} · Tollgate`;
	if (!board) return;
	show("totals", tile("Operations", number(now.ops), "a second", totals, "ops", rate), tile("Errors", failing(now.share), rate(now.errors), totals, "share", percent, "bad"),
		tile("P99", ms(now.p99), "of all", totals, "p99", ms), tile("Refused", number(now.refused), "a second", totals, "refused", rate, "bad"),
		tile("Connections", number(now.open), "of clients", totals, "open", number));
	show("view", views[view](query));
}

// -- asking --

async function ask(path, method = "GET", body) {
	const headers = { "content-type": "application/json" };
	if (token) headers.authorization = "Bearer " + token;
	const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(8000) });
	const text = await answer.text();
	if (answer.ok) return text && JSON.parse(text);
	throw new Error(text.startsWith("{") ? JSON.parse(text).error : `the status is ${answer.status}`);
}

/** Asks for operations that fit the filter, and adds them to those that are shown. */
async function askLive(view, query) {
	const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)), key = view + text;
	if (live.key != key) live = { key, next: 0, rows: [] };
	const into = live;
	try {
		const found = await ask(`/operations/live?after=${into.next}&${text}`);
		into.rows = [...found.operations.reverse(), ...(found.next < into.next ? [] : into.rows)].slice(0, KEPT);
		[into.next, into.wrong] = [found.next, null];
	} catch (error) { into.wrong = error.message; }
}

async function poll() {
	const [view, query] = route(), more = tick++ % 3 == 0 ? EXTRA[view]?.(query) ?? [] : [];
	try {
		const watched = (view == "live" || view == "operation") && askLive(view, query);
		const [next, , ...found] = await Promise.all([ask("/dashboard"), watched, ...more.map(path => ask(path))]);
		more.forEach((path, i) => extra[path] = found[i]);
		take(next);
		failed = null;
	} catch (error) {
		failed = { since: failed?.since ?? Date.now(), why: error.message };
	}
	draw();
}

let timer, asking;
async function loop(now) {
	clearTimeout(timer);
	if (!asking && !document.hidden && (now || !paused)) {
		asking = true;
		await poll();
		asking = false;
	}
	timer = setTimeout(loop, 1000);
}
function again() {
	tick = 0;
	draw();
	loop(true);
}

// -- acting --

/** Asks in a dialog. Returns what was typed, or "yes"; nothing if it was closed. */
function confirm(heading, text, yes, typed) {
	const dialog = $("dialog");
	const form = h("form", { method: "dialog" }, typed && h("input", { name: "typed", type: "password", autocomplete: "off", required: "", "aria-label": heading }),
		button("Cancel", "cancel"), h("button" + (typed ? "" : ".danger"), yes));
	dialog.replaceChildren(h("h2", heading), h("p", text), form);
	dialog.returnValue = "";
	dialog.showModal();
	return new Promise(done => {
		dialog.onclose = () => dialog.open || done(dialog.returnValue); // It may be open again.
		form.onsubmit = event => {
			event.preventDefault();
			dialog.close(typed ? form.elements.typed.value.trim() : "yes");
		};
	});
}

let quiet;
function tell(text) {
	[$("toast").hidden, $("toast").textContent] = [false, text];
	clearTimeout(quiet);
	quiet = setTimeout(() => $("toast").hidden = true, 8000);
	again();
}
const change = (said, ...request) => ask(...request).then(() => tell(said), error => tell("Not done: " + error.message));

const acts = {
	sort(key) { sort = key; draw(); },
	pause() { paused = !paused; draw(); },
	cancel() { $("dialog").close(""); },
	async token() {
		token = await confirm("Enter the token", "It is in admin.token_file. This page keeps it until it is closed.", "Use it", true);
		if (!token) return;
		const right = await ask("/dashboard").then(it => it.changes.allowed, () => false);
		if (!right) token = "";
		tell(right ? "Changes are allowed now." : "This is not the token.");
	},
	async endpoint(cluster, endpoint, to, used, all) {
		const text = `Its connections close when they are idle. ${used} of ${all} endpoints are in use.`;
		if (to == "drained" && !await confirm(`Drain ${endpoint}?`, text + (used < 2 ? " No other one is left." : ""), "Drain it")) return;
		change(`${endpoint} is ${to.replace("_", " ")}.`, `/clusters/${part(cluster)}/endpoints/${part(endpoint)}?state=${to}`, "POST");
	},
	policy: (name, to, text) => change(`${name}: ${text}, until the proxy ends.`, "/policies/" + part(name), "PUT", to),
	async drain() {
		if (await confirm("Drain this proxy?", "It accepts no new connections, lets what is under way end, and exits for good.", "Drain it")) change("The proxy drains.", "/drain", "POST");
	},
};

addEventListener("click", event => {
	const { act, args } = event.target.closest?.("[data-act]")?.dataset ?? {};
	if (act) acts[act](...JSON.parse(args));
});
addEventListener("input", event => {
	if (event.target.form?.id != "filter") return;
	const filled = [...new FormData(event.target.form)].filter(([, value]) => value);
	history.replaceState(null, "", "#live?" + new URLSearchParams(filled));
	again();
});
addEventListener("submit", event => event.preventDefault());
addEventListener("hashchange", () => { again(); $("view").focus({ preventScroll: true }); scrollTo(0, 0); });
addEventListener("visibilitychange", () => loop());
draw();
loop();
