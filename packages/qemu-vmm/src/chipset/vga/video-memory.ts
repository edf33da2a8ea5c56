/** Memory of a device that the guest may see as RAM, at addresses that change. */
export interface VideoMemory {
  readonly bytes: Uint8Array
  /**
   * Shows `size` bytes from `offset` on at `gpa`, in place of what slot 0 or 1 showed; nothing when
   * `gpa` is undefined. False when something else is there, and accesses reach the bus.
   */
  show(slot: 0 | 1, gpa: number | undefined, size?: number, offset?: number): boolean
  /** Reports a write that was not the guest's own. */
  markWritten(offset: number, length: number): void
  /** One bit for each page that was written since the last call. */
  takeDirty(): Uint8Array
}
