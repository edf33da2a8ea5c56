import type { Bus } from '../../machine/bus.ts'
import { PciFunction } from '../pci/function.ts'
import { SMBUS_BYTES, SmbusHost } from '../smbus.ts'

const HOST_CONFIG = 0x40
const HOST_ENABLED = 0x01
const BASE_BAR = 4

/** The SMBus controller of the ICH9 at 1f.3 (ICH9 data sheet, 19). */
export class Ich9Smbus {
  readonly fn: PciFunction
  readonly host: SmbusHost

  constructor(bus: Bus) {
    this.fn = new PciFunction('ich9-smb', bus, {
      vendor: 0x8086,
      device: 0x2930,
      revision: 0x02,
      classCode: 0x0c0500,
      interruptPin: 1,
      multifunction: true,
    })
    const { fn } = this
    const { config } = fn
    config.allowWrites(HOST_CONFIG, 1, 0x0f)
    config.seal()
    this.host = new SmbusHost((level) => fn.setInterrupt(level), bus.unknownOf('smbus'))
    const isEnabled = (): boolean => (config.data[HOST_CONFIG]! & HOST_ENABLED) !== 0
    fn.addBar(BASE_BAR, {
      space: 'pio',
      size: SMBUS_BYTES,
      access: { max: 1 },
      handler: {
        read: (offset) => (isEnabled() ? this.host.read(offset) : 0xff),
        write: (offset, size, value) => {
          if (isEnabled()) this.host.write(offset, size, value)
        },
      },
    })
  }
}
