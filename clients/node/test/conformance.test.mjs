// The cases of tests/vectors/daemon, as its README describes them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { LocalmemError, Memory } from "../dist/esm/index.js";
import { exchange, Home, VECTORS } from "./home.mjs";

// After which a call counts as sent: the daemon is frozen, so nothing else can tell.
const GRACE_MS = 500;
const NEXT_MS = 60_000;

function casesOf(name) {
  const { cases } = JSON.parse(readFileSync(join(VECTORS, `${name}.json`), "utf8"));
  return cases.filter((one) => (one.only ?? ["node"]).includes("node"));
}

const CALLS = {
  record_event: (memory, { event }, options) => memory.recordEvent(event, options),
  query_recent: (memory, { k, query, ...rest }, options) =>
    memory.queryRecent(k, query, { ...rest, ...options }),
  recent: (memory, { k, ...rest }, options) => memory.recent(k, { ...rest, ...options }),
  timeline: (memory, given, options) => memory.timeline({ ...given, ...options }),
  pin: (memory, { id, ...rest }, options) => memory.pin(id, { ...rest, ...options }),
  forget: (memory, { ids }, options) => memory.forget(ids, options),
  status: (memory, _, options) => memory.status(options),
};

class Run {
  constructor(home) {
    this.home = home;
    this.saved = new Map();
    this.watches = new Map();
  }

  async play({ steps }) {
    const memory = new Memory(this.home.options);
    try {
      for (const [number, step] of steps.entries()) {
        try {
          await this.step(memory, step);
        } catch (error) {
          throw new Error(`step ${number}, ${JSON.stringify(step).slice(0, 300)}: ${error.message}`, {
            cause: error,
          });
        }
      }
    } finally {
      for (const watch of this.watches.values()) watch.close();
      memory.close();
    }
  }

  async step(memory, step) {
    if ("call" in step) await this.call(memory, step);
    else if ("request" in step) await this.request(step);
    else if ("watch" in step) await this.expect(step, this.begin(memory, step));
    else if ("next" in step) {
      const timer = setTimeout(() => this.watches.get(step.next).close(), NEXT_MS);
      const { value } = await this.watches.get(step.next).next();
      clearTimeout(timer);
      this.match(step.returns, value);
    } else if ("end" in step) {
      this.watches.get(step.end).close();
      this.watches.delete(step.end);
    } else if ("fault" in step) await this.fault(step.fault);
    else throw new Error("unknown step");
  }

  async begin(memory, step) {
    const watch = memory.watch(this.value(step.with));
    await watch.ready;
    this.watches.set(step.watch, watch);
  }

  async call(memory, step) {
    const own = step.fresh ? new Memory(this.home.options) : memory;
    const giveUp = new AbortController();
    const options = { timeoutMs: step.timeout_ms, signal: giveUp.signal };
    const calling = CALLS[step.call](own, this.value(step.with), options);
    try {
      await this.expect(step, this.amid(calling, step.meanwhile, giveUp));
    } finally {
      if (step.fresh) own.close();
    }
  }

  async amid(calling, meanwhile, giveUp) {
    if (meanwhile === undefined) return calling;
    let isDone = false;
    const done = () => (isDone = true);
    calling.then(done, done);
    await pause(GRACE_MS);
    assert.ok(!isDone, "answered by a daemon that is frozen");
    if (meanwhile === "cancel") giveUp.abort();
    else await this.fault(meanwhile);
    return calling;
  }

  async expect(step, result) {
    let got;
    try {
      got = await result;
    } catch (error) {
      if (step.raises === undefined) throw error;
      if (step.raises.cancelled) {
        assert.equal(error.name, "AbortError");
        return;
      }
      assert.ok(error instanceof LocalmemError, `not typed: ${error.stack}`);
      assert.ok([step.raises.code].flat().includes(error.code), `${error.code}: ${error.message}`);
      if ("field" in step.raises) assert.equal(error.field, step.raises.field);
      return;
    }
    assert.equal(step.raises, undefined, `returned ${JSON.stringify(got)?.slice(0, 300)}`);
    if ("returns" in step) this.match(step.returns, got);
  }

  value(given) {
    if (Array.isArray(given)) return given.map((one) => this.value(one));
    if (typeof given !== "object" || given === null) return given;
    const entries = Object.entries(given);
    const [name, one] = entries[0] ?? [""];
    if (entries.length !== 1 || !name.startsWith("$")) {
      return Object.fromEntries(entries.map(([key, value]) => [key, this.value(value)]));
    }
    if (name === "$saved") return this.saved.get(one);
    if (name === "$text") return one.map(([piece, times]) => piece.repeat(times)).join("");
    if (name === "$list") return Array.from({ length: one[1] }, () => this.value(one[0]));
    if (name === "$utf16") {
      return String.fromCharCode(...one.split(" ").map((unit) => Number.parseInt(unit, 16)));
    }
    if (name === "$not_json") return 1n;
    throw new Error(`unknown value: ${name}`);
  }

  match(pattern, got) {
    if (Array.isArray(pattern)) {
      assert.ok(Array.isArray(got));
      assert.equal(got.length, pattern.length, JSON.stringify(got));
      pattern.forEach((one, index) => this.match(one, got[index]));
    } else if (typeof pattern !== "object" || pattern === null) {
      assert.strictEqual(got, pattern);
    } else if ("$save" in pattern) {
      this.match(pattern.as ?? { $any: true }, got);
      this.saved.set(pattern.$save, got);
    } else if ("$any" in pattern) {
      return;
    } else if ("$length" in pattern) {
      assert.equal(got.length, pattern.$length);
    } else if ("$from" in pattern) {
      assert.ok(pattern.$from <= got && got <= pattern.to, `${got}`);
    } else if ("$has" in pattern) {
      assert.ok(got.some((one) => this.matches(pattern.$has, one)), JSON.stringify(got));
    } else if (Object.keys(pattern).length === 1 && Object.keys(pattern)[0].startsWith("$")) {
      this.match(this.value(pattern), got);
    } else {
      for (const [name, one] of Object.entries(pattern)) {
        assert.ok(name in got, `${name} is not in ${JSON.stringify(got)}`);
        this.match(one, got[name]);
      }
    }
  }

  matches(pattern, got) {
    try {
      this.match(pattern, got);
      return true;
    } catch {
      return false;
    }
  }

  async request({ request, answers }) {
    const starting = new Memory(this.home.options);
    await starting.status();
    starting.close();
    let data = Buffer.alloc(0);
    if ("body" in request) data = Buffer.from(JSON.stringify(this.value(request.body)));
    else if ("text" in request) data = Buffer.from(this.value(request.text));
    else if ("hex" in request) data = Buffer.from(request.hex, "hex");
    const { status, headers, body } = await exchange(this.home.state(), { ...request, data });
    assert.equal(status, answers.status, body.toString());
    for (const [name, value] of Object.entries(answers.headers ?? {})) {
      assert.equal(headers[name.toLowerCase()], value);
    }
    if ("body" in answers) this.match(answers.body, JSON.parse(body.toString()));
  }

  async fault(fault) {
    if (fault === "freeze") this.home.signal("SIGSTOP");
    else if (fault === "thaw") this.home.signal("SIGCONT");
    else if (fault === "kill") await this.home.kill();
    else if (fault === "stop") await this.home.stop();
    else if (fault === "spoil_store") await this.home.spoil();
    else if (fault === "replace_token") this.home.replaceToken();
    else throw new Error(`unknown fault: ${fault}`);
  }
}

for (const name of ["calls", "requests"]) {
  describe(name, () => {
    let home;
    before(() => (home = new Home()));
    after(() => home.remove());
    for (const one of casesOf(name)) test(one.name, () => new Run(home).play(one));
  });
}

describe("faults", () => {
  for (const one of casesOf("faults")) {
    test(one.name, async () => {
      const home = new Home();
      try {
        await new Run(home).play(one);
      } finally {
        await home.remove();
      }
    });
  }
});
