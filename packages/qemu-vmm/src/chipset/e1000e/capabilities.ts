import { PciFunction } from '../pci/function.ts'
import { PCI_CACHE_LINE_SIZE } from '../pci/config-space.ts'
import type { Bus } from '../../machine/bus.ts'

const CAP_ID_POWER = 0x01
const CAP_ID_EXPRESS = 0x10
export const POWER_AT = 0xc8
export const MSI_AT = 0xd0
export const EXPRESS_AT = 0xe0
export const MSIX_AT = 0xa0
/** Version 2, wakes from D0, D3hot and D3cold (PCI power management 1.2, 3.2.3). */
const POWER_CAPABILITIES = 0x0022
const POWER_CONTROL = 4
/** State, PME enable and data select. */
const POWER_CONTROL_WRITABLE = 0x1f03
/** Version 1 of the structure; in a port, or part of the root complex (PCI Express 5.0, 7.5.3.2). */
const ENDPOINT = 0x0001
const INTEGRATED_ENDPOINT = 0x0091
const ROLE_BASED_ERRORS = 0x8000
/** 2.5 GT/s, one lane, L0s. */
const LINK_CAPABILITIES = 0x0411
const LINK_SPEED_WIDTH = 0x0011

/** Extended capabilities (PCI Express 5.0, 7.8.4 and 7.9.3). */
const ERRORS_AT = 0x100
const SERIAL_AT = 0x140

/** The function of an 82574L with configuration space as QEMU 7.2 has it, but for its BARs and messages. */
export function createFunction(name: string, bus: Bus): PciFunction {
  const fn = new PciFunction(name, bus, {
    vendor: 0x8086,
    device: 0x10d3,
    classCode: 0x020000,
    subsystemVendor: 0x8086,
    subsystem: 0,
    interruptPin: 1,
    express: true,
  })
  fn.config.allowWrites(PCI_CACHE_LINE_SIZE, 1, 0xff)
  const power = Uint8Array.of(0, 0, POWER_CAPABILITIES & 0xff, POWER_CAPABILITIES >> 8, 0, 0, 0, 0)
  fn.config.addCapability(CAP_ID_POWER, power, POWER_AT)
  fn.config.allowWrites(POWER_AT + POWER_CONTROL, 2, POWER_CONTROL_WRITABLE)
  fn.config.seal()
  return fn
}

/** What an endpoint of PCI Express has; `mac` gives its serial number, `isIntegrated` is one that is in no port. */
export function addExpress(fn: PciFunction, mac: Uint8Array, isIntegrated: boolean): void {
  const { config } = fn
  if (!isIntegrated) fn.linkStatus = () => LINK_SPEED_WIDTH
  const capability = new DataView(new ArrayBuffer(0x14))
  capability.setUint16(2, isIntegrated ? INTEGRATED_ENDPOINT : ENDPOINT, true)
  capability.setUint32(4, ROLE_BASED_ERRORS, true)
  capability.setUint32(0x0c, LINK_CAPABILITIES, true)
  capability.setUint16(0x12, LINK_SPEED_WIDTH, true)
  config.addCapability(CAP_ID_EXPRESS, new Uint8Array(capability.buffer), EXPRESS_AT)

  config.set(ERRORS_AT, 4, (SERIAL_AT << 20) | 0x0002_0001)
  config.set(ERRORS_AT + 0x0c, 4, 0x0046_2030)
  config.allowWrites(ERRORS_AT + 0x0c, 4, 0x03ff_f030)
  config.set(ERRORS_AT + 0x14, 4, 0xe000)
  config.allowWrites(ERRORS_AT + 0x14, 4, 0xf1c1)
  config.set(ERRORS_AT + 0x18, 4, 0x00a0)
  config.allowWrites(ERRORS_AT + 0x18, 4, 0x0140)

  // EUI-64 of the address.
  config.set(SERIAL_AT, 4, 0x0001_0003)
  const serial = [mac[5]!, mac[4]!, mac[3]!, 0xff, 0xff, mac[2]!, mac[1]!, mac[0]!]
  for (const [i, byte] of serial.entries()) config.set(SERIAL_AT + 4 + i, 1, byte)
  config.seal()
}
