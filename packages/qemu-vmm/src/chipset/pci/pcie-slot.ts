import { VmmError } from '../../errors.ts'
import type { ConfigSpace } from './config-space.ts'
import type { PciFunction } from './function.ts'

/** Capability of PCI Express functions (PCI Express 5.0, 7.5.3), and offsets in it. */
const CAP_ID_EXPRESS = 0x10
const CAP_BYTES = 0x3c
const FLAGS = 0x02
const DEVICE_CAPABILITIES = 0x04
const DEVICE_CONTROL = 0x08
const LINK_CAPABILITIES = 0x0c
const LINK_CONTROL = 0x10
const LINK_STATUS = 0x12
const SLOT_CAPABILITIES = 0x14
const SLOT_CONTROL = 0x18
const SLOT_STATUS = 0x1a
const ROOT_CONTROL = 0x1c
const DEVICE_CAPABILITIES_2 = 0x24
const DEVICE_CONTROL_2 = 0x28
const LINK_CAPABILITIES_2 = 0x2c
const LINK_CONTROL_2 = 0x30

const ROOT_PORT_WITH_SLOT = 0x0142
const ROLE_BASED_ERRORS = 0x8000
/** 16 GT/s, 32 lanes, which report when they are up. */
const LINK_SPEED_WIDTH = 0x0204
const LINK_REPORTS = 0x0030_0400
const PORT_NUMBER_SHIFT = 24
const LINK_ACTIVE = 0x2000
const LINK_STATUS_SHIFT = 16
/** Attention button, power control, both indicators, surprise, hot-plug, interlock. */
const SLOT_HOT_PLUG = 0x0002_007b
/** Those of them that a slot lacks whose device stays. */
const SLOT_CHANGES = 0x0060
const SLOT_NUMBER_SHIFT = 19

/** Slot control. */
const CONTROL_WRITABLE = 0x07f9
const INTERRUPTS = 0x0020
const POWER_INDICATOR = 0x0300
const POWER_INDICATOR_ON = 0x0100
const POWER_INDICATOR_BLINKS = 0x0200
const INDICATORS_OFF = 0x03c0
const POWER_OFF = 0x0400
const INTERLOCK_TOGGLE = 0x0800

/** Slot status; the lower five bits are events, which the same bits of the control enable. */
const ATTENTION_BUTTON = 0x0001
const PRESENCE_CHANGED = 0x0008
const COMMAND_COMPLETED = 0x0010
const PRESENT = 0x0040
const INTERLOCKED = 0x0080
const EVENTS = 0x001f

/** What the slot asks of the port around it. */
export interface SlotActions {
  /** An event that the guest wants to hear of is pending, or none is any more. */
  interrupt(level: boolean): void
  /** The guest has switched the slot off: returns whether what was in it is gone now. */
  removed(): boolean
  /** Speed and width of the link of what is in the slot; absent where nothing has one. */
  link(): number | undefined
}

/** The Express capability of a root port, and the slot that it has. */
export class PcieSlot {
  readonly at: number
  readonly #config: ConfigSpace
  readonly #actions: SlotActions
  readonly #isNative: boolean
  /** Both registers before a write of the guest. */
  #control = 0
  #events = 0

  /**
   * Adds the capability at `place`; what `numbers` has the guest reads. A slot that ACPI fills and
   * empties (`isNative` false) has the same registers, but shows no device, as on QEMU. One that is not
   * `isHotpluggable` keeps what it has.
   */
  constructor(
    fn: PciFunction,
    place: number,
    numbers: { slot: number; port: number; isNative: boolean; isHotpluggable: boolean },
    actions: SlotActions,
  ) {
    const { config } = fn
    this.#config = config
    this.#isNative = numbers.isNative
    this.#actions = actions
    const capability = new DataView(new ArrayBuffer(CAP_BYTES))
    const link = LINK_REPORTS | LINK_SPEED_WIDTH | (numbers.port << PORT_NUMBER_SHIFT)
    capability.setUint16(FLAGS, ROOT_PORT_WITH_SLOT, true)
    capability.setUint32(DEVICE_CAPABILITIES, ROLE_BASED_ERRORS, true)
    capability.setUint32(LINK_CAPABILITIES, link, true)
    capability.setUint16(LINK_STATUS, LINK_SPEED_WIDTH, true)
    const abilities = numbers.isHotpluggable ? SLOT_HOT_PLUG : SLOT_HOT_PLUG & ~SLOT_CHANGES
    capability.setUint32(SLOT_CAPABILITIES, abilities | (numbers.slot << SLOT_NUMBER_SHIFT), true)
    capability.setUint16(SLOT_CONTROL, INDICATORS_OFF | POWER_OFF, true)
    capability.setUint32(DEVICE_CAPABILITIES_2, 0x0030_0020, true)
    capability.setUint32(LINK_CAPABILITIES_2, 0x1e, true)
    capability.setUint16(LINK_CONTROL_2, 4, true)
    // A port in the slot of another one is as fast and as wide as what it has itself.
    fn.linkStatus = () => this.#linkSpeedWidth()
    this.at = config.addCapability(CAP_ID_EXPRESS, new Uint8Array(capability.buffer), place)
    config.allowWrites(this.at + DEVICE_CONTROL, 2, 0x000f)
    config.allowWrites(this.at + SLOT_CONTROL, 2, CONTROL_WRITABLE)
    config.allowClears(this.at + SLOT_STATUS, 2, EVENTS)
    config.allowWrites(this.at + ROOT_CONTROL, 2, 0x0007)
    config.allowWrites(this.at + DEVICE_CONTROL_2, 2, 0x8020)
    fn.addConfigWindow(this.at + LINK_CONTROL, 4, {
      read: (offset, size) =>
        ((this.#linkRegisters() >>> (8 * offset)) & (2 ** (8 * size) - 1)) >>> 0,
      write() {},
    })
    fn.addConfigWindow(this.at + SLOT_CONTROL, 4, {
      read: () => undefined,
      write: (offset, size, value) => this.#written(offset, size, value),
    })
  }

  /** Status of the slot, which has what the guest cannot write. */
  get status(): number {
    return this.#get(SLOT_STATUS)
  }

  /** The slot has power: what is in it can be reached. */
  get isPowered(): boolean {
    return (this.#get(SLOT_CONTROL) & POWER_OFF) === 0
  }

  /** Throws `E_HOTPLUG` while the guest holds the slot shut. */
  checkUnlocked(): void {
    if ((this.#get(SLOT_STATUS) & INTERLOCKED) === 0) return
    throw new VmmError(
      'E_HOTPLUG',
      'slot is electromechanically locked: Device or resource busy; the guest has to unlock it',
    )
  }

  /** Takes a saved status back; whether a device is there shows by itself. */
  restore(status: number, present: boolean): void {
    const known = EVENTS | INTERLOCKED
    const shown = present && this.#isNative
    this.#config.set(this.at + SLOT_STATUS, 2, (status & known) | (shown ? PRESENT : 0))
    this.#link(shown)
    this.update()
  }

  /** After a reset: what is in the slot runs, and an empty one is off. */
  setPresent(present: boolean): void {
    const shown = present && this.#isNative
    this.#status(shown ? PRESENT : 0, PRESENT)
    this.#link(shown)
    if (!present) return
    this.#change(POWER_INDICATOR_ON, POWER_INDICATOR | POWER_OFF)
  }

  /** Gives power to what has come without the guest's doing. */
  switchOn(): void {
    this.#change(0, POWER_OFF)
  }

  /** A device was plugged in: the guest is asked to switch it on. */
  plugged(): void {
    this.#status(PRESENT | PRESENCE_CHANGED | ATTENTION_BUTTON, 0)
    this.#link(true)
    this.update()
  }

  /** Throws `E_HOTPLUG` while the guest cannot be asked to let go: the slot is locked, or it is at it. */
  checkUnplug(): void {
    this.checkUnlocked()
    const control = this.#get(SLOT_CONTROL)
    if ((control & POWER_INDICATOR) !== POWER_INDICATOR_BLINKS) return
    throw new VmmError(
      'E_HOTPLUG',
      'Hot-unplug failed: guest is busy (power indicator blinking); try again later',
    )
  }

  /** The guest is asked to switch the device off; one that never switched it on need not be. */
  requestRemoval(): void {
    if (isOff(this.#get(SLOT_CONTROL))) {
      this.#remove()
      return
    }
    this.#status(ATTENTION_BUTTON, 0)
    this.update()
  }

  /** Raises or lowers the interrupt by what is pending and enabled. */
  update(): void {
    const control = this.#get(SLOT_CONTROL)
    const status = this.#get(SLOT_STATUS)
    this.#control = control
    this.#events = status & EVENTS
    const pending = status & control & EVENTS
    this.#actions.interrupt((control & INTERRUPTS) !== 0 && pending !== 0)
  }

  #written(offset: number, size: number, value: number): void {
    const word = offset < 2 ? value << (8 * offset) : value << (8 * offset - 16)
    const cleared = offset >= 2 ? word : size === 4 ? value >>> 16 : 0
    // Guests clear all bits when they begin, and would lose what happens just then.
    if ((cleared & EVENTS & ~this.#events) !== 0) this.#status(this.#events, EVENTS)
    if (offset < 2) this.#commanded(word)
    this.update()
  }

  /** Each write to the control register is a command, and has completed at once. */
  #commanded(word: number): void {
    if ((word & INTERLOCK_TOGGLE) !== 0) {
      const was = this.#get(SLOT_STATUS) & INTERLOCKED
      this.#status(was === 0 ? INTERLOCKED : 0, INTERLOCKED)
    }
    const isPresent = (this.#get(SLOT_STATUS) & PRESENT) !== 0
    // One that is off already may be written to before it is switched on.
    if (isPresent && isOff(this.#get(SLOT_CONTROL)) && !isOff(this.#control)) this.#remove()
    this.#status(COMMAND_COMPLETED, 0)
  }

  #remove(): void {
    if ((this.#get(SLOT_STATUS) & PRESENT) === 0 || !this.#actions.removed()) return
    this.#status(PRESENCE_CHANGED, PRESENT)
    this.#link(false)
    this.update()
  }

  /** Control and status: a link is as fast and as wide as the one at its other end. */
  #linkRegisters(): number {
    const active = this.#get(LINK_STATUS) & LINK_ACTIVE
    const status = active | this.#linkSpeedWidth()
    return this.#get(LINK_CONTROL) | (status << LINK_STATUS_SHIFT)
  }

  #linkSpeedWidth(): number {
    return this.#actions.link() ?? LINK_SPEED_WIDTH
  }

  #link(up: boolean): void {
    const status = LINK_SPEED_WIDTH | (up ? LINK_ACTIVE : 0)
    this.#config.set(this.at + LINK_STATUS, 2, status)
  }

  #status(set: number, clear: number): void {
    this.#config.set(this.at + SLOT_STATUS, 2, (this.#get(SLOT_STATUS) & ~clear) | set)
  }

  #change(set: number, clear: number): void {
    this.#config.set(this.at + SLOT_CONTROL, 2, (this.#get(SLOT_CONTROL) & ~clear) | set)
  }

  #get(register: number): number {
    return this.#config.get16(this.at + register)
  }
}

/** Power and indicator: only both say that the guest has let go. */
function isOff(control: number): boolean {
  return (control & POWER_OFF) !== 0 && (control & POWER_INDICATOR) === POWER_INDICATOR
}
