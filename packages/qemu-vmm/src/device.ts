/** What the bus calls: one access of 1, 2 or 4 bytes at an offset from the start of the range. */
export interface IoHandler {
  /** Returns the value in the low `size` bytes; higher bits are dropped. */
  read(offset: number, size: number): number
  write(offset: number, size: number, value: number): void
  /**
   * A shorter way for the many accesses of a repeated INS: does what `read` would for each element
   * of `size` bytes in `target[start..end)`, in order. Not called for sizes that the bus splits.
   */
  readString?(offset: number, size: number, target: Uint8Array, start: number, end: number): void
  /** The same for a repeated OUTS. */
  writeString?(offset: number, size: number, source: Uint8Array, start: number, end: number): void
}

/**
 * Takes what a read of a register gives as long as that has no other effect, whenever it changes, and before an interrupt
 * that says so: reads then cost no exit. After `undefined`, which is for good, each read comes to the device.
 */
export type Latch = (value: number | undefined) => void

/**
 * Lets the guest run on behind bytes that it writes to a register, or not any more: called while the guest waits for this
 * device, or before it may run on. What was written is served in order, before any other access and before the machine
 * stands still.
 */
export type PostGate = (isOpen: boolean) => void

/**
 * A device: plain methods and a plain state.
 *
 * Calls are synchronous and never overlap, so a device needs no locks. Slow work starts here,
 * returns at once and raises an interrupt when it is done. `save` returns data that
 * `structuredClone` accepts; `load` must reject states that the device could not have saved,
 * because a state file is input like any other.
 */
export interface Device<State = unknown> extends IoHandler {
  /** The state after power-on. */
  reset(): void
  save(): State
  load(state: State): void
}

/** The part of a device that is reset, saved and loaded, however it is reached. */
export type Stateful<State = unknown> = Omit<Device<State>, keyof IoHandler>

/**
 * One interrupt input as one device sees it. Several devices may share it: the line is the OR of
 * all.
 */
export interface IrqLine {
  /** Drives the line; a call with the present level costs nothing. */
  set(level: boolean): void
  /** An edge: high, then low at once. */
  pulse(): void
}

/** A pending call of {@link Clock.setTimer}. */
export interface ClockTimer {
  cancel(): void
}

/**
 * The only source of time for devices, so that a run can be paused, replayed or driven by a test.
 */
export interface Clock {
  /**
   * Guest time in nanoseconds since the machine was created; stands still while the machine is
   * paused.
   */
  nowNs(): number
  /** Time of day in milliseconds since 1970 (UTC). */
  wallMs(): number
  /** Calls `fn` once guest time has reached `atNs`; never inside `setTimer` itself. */
  setTimer(atNs: number, fn: () => void): ClockTimer
}

/** The only source of randomness for devices. */
export interface Entropy {
  /** Fills the whole array. */
  fill(target: Uint8Array): void
}

/** Guest-physical memory as devices see it. Addresses outside RAM throw. */
export interface GuestMemory {
  read(gpa: number, target: Uint8Array): void
  write(gpa: number, source: Uint8Array): void
  /** A view for reading and writing; writes through its setters are reported to the dirty log. */
  view(gpa: number, length: number): DataView
}

/** A range of ports or of guest-physical addresses. */
export interface IoRange {
  base: number
  len: number
}

/**
 * Sizes that the handler implements itself; the bus splits or widens other accesses, low byte
 * first.
 */
export interface AccessSizes {
  min?: 1 | 2 | 4
  max?: 1 | 2 | 4
}

/** What a custom device is given. */
export interface DeviceContext {
  /**
   * The line named by `irq` of the definition; without `irq` a line that is connected to nothing.
   */
  irq: IrqLine
  ram: GuestMemory
  clock: Clock
  entropy: Entropy
  log(message: string): void
  /** Ends the machine as a guest's power-off does, with this exit status. */
  exit(code: number): void
}

/** A kind of device: where it sits and how to create one. */
export interface DeviceDefinition<State = unknown> {
  name: string
  /** Port ranges. With several, offsets count from the base of the first. */
  pio?: IoRange | readonly IoRange[]
  /** Memory-mapped ranges. With several, offsets count from the base of the first. */
  mmio?: IoRange | readonly IoRange[]
  /** Global system interrupt 0..23. */
  irq?: number
  access?: AccessSizes
  create(context: DeviceContext): Device<State>
}

/**
 * Defines a custom device: names the types of its argument and returns it. Where `create` takes
 * its context, give the parameter of `load` its type, which TypeScript then cannot infer.
 */
export function defineDevice<State>(definition: DeviceDefinition<State>): DeviceDefinition {
  // A machine treats states as opaque data and hands each device its own back.
  return definition as DeviceDefinition
}
