/** How a bus tells its guest of what comes and goes while the machine runs. */
export interface SlotHotplug {
  /** After asking a guest to let go of a slot, nanoseconds in which asking again is refused. */
  readonly patienceNs: number
  /** ACPI tells the guest what index a device has. */
  readonly hasIndices?: boolean
  /** Throws `E_HOTPLUG` when nothing can be plugged in now. */
  checkPlug(): void
  /** A function was plugged into a slot. */
  plugged(slot: number): void
  /**
   * Asks the guest to let go of a slot. Returns true where there is nobody to ask, as the function was
   * never shown: it may be taken out by itself. Throws `E_HOTPLUG` when the guest cannot be asked now.
   */
  requestUnplug(slot: number, functionNumber: number): boolean
}
