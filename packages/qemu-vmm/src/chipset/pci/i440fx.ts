import type { Bus } from '../../machine/bus.ts'
import { PCI_COMMAND, PCI_STATUS } from './config-space.ts'
import { PciFunction } from './function.ts'

const PAM_FIRST = 0x59
const PAM_COUNT = 7
const SMRAM = 0x72
const SMRAM_DEFAULT = 0x02

/** The 82441FX host bridge (PMC) at 00.0. */
export function createHostBridge(bus: Bus): PciFunction {
  const fn = new PciFunction('i440fx', bus, {
    vendor: 0x8086,
    device: 0x1237,
    revision: 0x02,
    classCode: 0x060000,
  })
  fn.config.set(PCI_COMMAND, 2, 0x0006)
  fn.config.set(PCI_STATUS, 2, 0x0280)
  // Shadow RAM attributes and SMRAM control: this machine has RAM there from the start, so they
  // are registers that firmware can set and read back.
  fn.config.allowWrites(0x50, 2, 0xffff)
  fn.config.allowWrites(0x57, 1, 0xff)
  for (let i = 0; i < PAM_COUNT; i++) fn.config.allowWrites(PAM_FIRST + i, 1, i === 0 ? 0x30 : 0x33)
  fn.config.set(SMRAM, 1, SMRAM_DEFAULT)
  fn.config.allowWrites(SMRAM, 1, 0x78)
  fn.config.seal()
  return fn
}
