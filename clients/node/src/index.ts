// A client of localmem's daemon. Writes nothing to a disk, and needs nothing but Node.js.

export { Memory } from "./memory.js";
export type { QueryOptions, TimelineOptions, WatchOptions } from "./memory.js";
export { Watching } from "./watching.js";
export {
  ConfigError,
  DaemonError,
  DaemonTimeout,
  EventError,
  LocalmemError,
  QueryError,
  StoreError,
} from "./errors.js";
export type {
  CallOptions,
  Draft,
  Event,
  Filters,
  FoundEvent,
  Kind,
  MemoryOptions,
  Status,
} from "./types.js";
