import type { DEFER } from '../defer.ts'

/** Handlers of `DeviceHost.serve`. */
export interface ServeHandlers {
  /**
   * Handle the exit in this vCPU's `kvm_run` page. The vCPU goes on when this returns, unless it
   * returns `DEFER`: then when `complete(vcpu)` is called.
   */
  exit(vcpu: number, run: ArrayBuffer): void | typeof DEFER
  /** The ioeventfd with this id was signalled, once or more. */
  ioevent?(id: number): void
  /** A posted write (route kind `'posted'`), in order, before any later exit. */
  posted?(write: PostedWrite): void
}

/** A write that a vCPU left in the ring of its posted route. */
export interface PostedWrite {
  space: 'pio' | 'mmio'
  addr: number
  size: number
  /** What was written; of 8 bytes the low four. */
  value: number
  /** The high four of 8 bytes, otherwise 0. */
  high: number
}

export interface DeviceHostOptions {
  /** Which host this is; `route({ host })` and `ioeventfd({ host })` name it. Default 0. */
  id?: number
  /** Limit of the time that `serve` polls before it goes back to sleep; default 50, 0 never. */
  maxPollUs?: number
}

/**
 * Binds one isolate to the exits of a VM: control page, doorbell, and the answers. A VM has one
 * host per id; when its isolate dies, the next to create it inherits the exits that wait.
 */
export interface DeviceHost extends Disposable {
  readonly id: number
  /** The control page; offsets are in `CONTROL`, as bytes. */
  readonly control: Int32Array
  /** Present length of the polling window in microseconds. */
  readonly pollUs: number
  /**
   * Serves everything that waits: at most 64 exits or 100 us, then returns to the event loop and
   * is called again. Call it from `onDoorbell` and after `runSync` returned.
   * Returns the number of exits and events handled.
   */
  serve(handlers: ServeHandlers): number
  /** Bit mask (unsigned) of vCPUs `32 * word` and up that have posted exits; takes them. */
  take(word?: number): number
  /** Takes the mask of `CONTROL_EVENT` bits. */
  takeEvents(): number
  /** Takes one signalled ioeventfd and returns its id, or -1. */
  takeIoEvent(): number
  /** Takes the oldest posted write, or undefined. */
  takePosted(): PostedWrite | undefined
  /** The exit of this vCPU is answered: it goes on. False if it was aborted meanwhile. */
  complete(vcpu: number): boolean
  /** Arms the doorbell. False, with the doorbell disarmed, if something waits already. */
  rearm(): boolean
  close(): void
}
