// What is Node.js's own about the client: signals, iterators, classes, files.

import assert from "node:assert/strict";
import { chmodSync, readdirSync, statSync } from "node:fs";
import { after, before, test } from "node:test";

import {
  ConfigError,
  DaemonError,
  DaemonTimeout,
  EventError,
  Memory,
  QueryError,
} from "../dist/esm/index.js";
import { Home } from "./home.mjs";

let home;
let memory;

before(async () => {
  home = new Home();
  memory = new Memory(home.options);
  await memory.status();
});

after(async () => {
  memory.close();
  await home.remove();
});

const draft = (snippet, more = {}) => ({
  timestamp: 1_760_000_000_000,
  snippet,
  filePath: "src/a.js",
  selectionRange: [1, 3],
  ...more,
});

test("errors have their classes", async () => {
  await assert.rejects(memory.recordEvent(draft("")), EventError);
  await assert.rejects(memory.recordEvent(null), EventError);
  await assert.rejects(memory.recordEvent([]), EventError);
  await assert.rejects(memory.recent(0), QueryError);
  await assert.rejects(memory.recent(NaN), QueryError);
  await assert.rejects(memory.recent(1, { kind: () => 1 }), QueryError);
  await assert.rejects(memory.recent(1, { surprise: 1 }), { name: "QueryError", field: "surprise" });
  await assert.rejects(memory.forget(), QueryError);
  const circular = draft("x");
  circular.session = { circular };
  await assert.rejects(memory.recordEvent(circular), EventError);
  assert.ok(new DaemonTimeout("x") instanceof DaemonError);
});

test("a call that was given up before it began sends nothing", async () => {
  const reason = new Error("not any more");
  const count = (await memory.status()).events;
  const given = { signal: AbortSignal.abort(reason) };
  await assert.rejects(memory.recordEvent(draft("given up"), given), reason);
  assert.equal((await memory.status()).events, count);
});

test("many calls at once are all answered", async () => {
  const texts = Array.from({ length: 40 }, (_, number) => `at once ${number}`);
  const events = await Promise.all(texts.map((text) => memory.recordEvent(draft(text))));
  assert.deepEqual(events.map((event) => event.snippet), texts);
  const found = await Promise.all(texts.map((text) => memory.queryRecent(1, text)));
  assert.ok(found.every((one) => one.length === 1));
});

test("the clock of an event is exact", async () => {
  const event = await memory.recordEvent(draft('{"clock":1}'));
  assert.match(event.clock, /^[0-9]{16,19}$/);
  assert.equal(event.snippet, '{"clock":1}');
  assert.deepEqual(await memory.timeline({ id: event.id, k: 1 }), [event]);
});

test("a watch is ended by break, by close and by a signal, also while it waits", async () => {
  const broken = memory.watch();
  await broken.ready;
  await memory.recordEvent(draft("for the loop"));
  for await (const event of broken) {
    assert.equal(event.snippet, "for the loop");
    break;
  }
  assert.deepEqual(await broken.next(), { done: true, value: undefined });

  const closed = memory.watch();
  await closed.ready;
  const waiting = closed.next();
  closed.close();
  assert.deepEqual(await waiting, { done: true, value: undefined });

  const giveUp = new AbortController();
  const aborted = memory.watch({ signal: giveUp.signal });
  await aborted.ready;
  assert.equal(aborted.complete, true);
  const rejected = assert.rejects(aborted.next(), { name: "AbortError" });
  giveUp.abort();
  await rejected;
});

test("a watch that was never heard of by the daemon is refused where it is waited for", async () => {
  const wrong = memory.watch({ kind: "thought" });
  await assert.rejects(wrong.ready, QueryError);
  await assert.rejects(wrong.next(), { field: "kind" });
});

test("loopback serves as well", async () => {
  const other = new Memory({ ...home.options, transport: "loopback" });
  assert.equal((await other.status()).device, (await memory.status()).device);
  other.close();
});

test("without a daemon, and one that cannot be started, calls say so", async () => {
  const nowhere = new Home();
  const quiet = new Memory({ ...nowhere.options, start: false });
  await assert.rejects(quiet.recent(1), { code: "daemon", message: /localmem up/ });
  const missing = new Memory({ ...nowhere.options, command: ["no-such-program"] });
  await assert.rejects(missing.recent(1), { code: "daemon", message: /not on PATH/ });
  await assert.rejects(missing.watch().next(), { code: "daemon" });
  const wrong = new Memory({ ...nowhere.options, command: [process.execPath, "-e", "0", "--"] });
  await assert.rejects(wrong.recent(1), DaemonError);
  await nowhere.remove();
});

test("a file that others can read is not trusted", async () => {
  chmodSync(home.statePath, 0o644);
  try {
    await assert.rejects(memory.recent(1), ConfigError);
  } finally {
    chmodSync(home.statePath, 0o600);
  }
  assert.throws(() => new Memory({ environment: { LOCALMEM_HOME: "" } }), ConfigError);
});

test("the client writes nothing", async () => {
  const seen = () =>
    readdirSync(home.folder).map((name) => [name, statSync(`${home.folder}/${name}`).mtimeMs]);
  const before = seen();
  await memory.recordEvent(draft("quiet"));
  await memory.recent(1);
  assert.deepEqual(seen(), before);
});

test("a client that was closed says so, and the daemon goes on", async () => {
  const other = new Memory(home.options);
  const { pid } = home.state();
  await other.recent(1);
  other.close();
  await assert.rejects(other.recent(1), { code: "daemon", message: /closed/ });
  assert.equal(home.state().pid, pid);
});
