import type { PciFunction } from './function.ts'

/** Capability of PCI Express functions (PCI Express 5.0, 7.5.3), and offsets in it. */
const CAP_ID_EXPRESS = 0x10
const CAP_BYTES = 0x3c
const FLAGS = 0x02
const DEVICE_CAPABILITIES = 0x04
const DEVICE_CONTROL = 0x08
const LINK_CAPABILITIES = 0x0c
const LINK_STATUS = 0x12
const DEVICE_CAPABILITIES_2 = 0x24

const ENDPOINT = 0x0002
/** Role-based errors, and a reset of the function alone. */
const CAN_RESET = 0x1000_8000
const RESET = 0x8000
/** 2.5 GT/s, one lane. */
const LINK_SPEED_WIDTH = 0x0011
const LINK_STATES = 0x0400
const PREFIXES = 0x0030_0000

const CAP_ID_POWER = 0x01
const POWER_VERSION_3 = 3
const POWER_CONTROL = 4
const POWER_STATE = 0x0003

/** Adds what an endpoint in a slot of PCI Express has. `reset` is the guest's, of this function. */
export function addExpressEndpoint(fn: PciFunction, reset: () => void): void {
  const { config } = fn
  fn.linkStatus = () => LINK_SPEED_WIDTH
  const capability = new DataView(new ArrayBuffer(CAP_BYTES))
  capability.setUint16(FLAGS, ENDPOINT, true)
  capability.setUint32(DEVICE_CAPABILITIES, CAN_RESET, true)
  capability.setUint32(LINK_CAPABILITIES, LINK_STATES | LINK_SPEED_WIDTH, true)
  capability.setUint16(LINK_STATUS, LINK_SPEED_WIDTH, true)
  capability.setUint32(DEVICE_CAPABILITIES_2, PREFIXES, true)
  const at = config.addCapability(CAP_ID_EXPRESS, new Uint8Array(capability.buffer))
  config.allowWrites(at + DEVICE_CONTROL, 2, 0x000f)
  fn.addConfigWindow(at + DEVICE_CONTROL, 2, {
    read: () => undefined,
    write(offset, size, value) {
      const word = offset === 0 && size === 2 ? value : offset === 1 ? value << 8 : 0
      if ((word & RESET) === 0) return
      fn.reset()
      reset()
    },
  })
  const power = config.addCapability(
    CAP_ID_POWER,
    Uint8Array.of(0, 0, POWER_VERSION_3, 0, 0, 0, 0, 0),
  )
  config.allowWrites(power + POWER_CONTROL, 2, POWER_STATE)
  config.seal()
}
