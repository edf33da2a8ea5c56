import type { Eeprom93c46 } from './eeprom.ts'
import type { Register, RegisterBank } from './registers.ts'
import type { Rtl8139Registers } from './state.ts'
import type { TickTimer } from './timer.ts'

const COMMAND_EMPTY = 0x01
const COMMAND_TRANSMIT = 0x04
/** TCR: which chip it is, and what can be written. */
const VERSION = 0x7480_0000
const TRANSMIT_CONFIG = 0x030f_07f0
/** Interrupt causes that there are (RTL8139C+ data sheet, 5.4). */
export const CAUSES = 0xe1ff
const CONFIG5 = 0xd8
const CAUSE_SOFTWARE = 0x0100

/** Registers of the configuration: offset, bits that can be written, others. All but the last are locked. */
export const CONFIG = [
  [0x51, 0x07, 0],
  [0x52, 0xf3, 0x0c],
  [0x59, 0x70, 0x01],
  [0x5a, 0xf5, 0],
  [0xd8, 0x7f, 0],
] as const
/** Registers of the chip at the cable, 16 bits each: offset, value, bits that can be written. */
export const PHY = [
  [0x62, 0x1000, 0x0200],
  [0x64, 0x782d, 0],
  [0x66, 0x05e1, 0xffff],
  [0x68, 0x05e1, 0],
  [0x6a, 0x0001, 0],
  [0x70, 0, 0xffff],
  [0x74, 0x0340, 0],
] as const

/** What of the card registers reach. */
export interface CardHooks {
  config: Uint8Array
  phy: number[]
  eeprom: Eeprom93c46
  timer: TickTimer
  bufferBytes(): number
  isUp(): boolean
  command(value: number): void
  status(index: number, value: number): void
  /** Causes or mask are others. */
  changed(): void
  /** There may be room for frames. */
  feed(): void
  raise(causes: number): void
  /** There may be something to send. */
  run(): void
}

/** Puts all registers into their places. */
export function defineRegisters(
  bank: RegisterBank,
  registers: Rtl8139Registers,
  card: CardHooks,
): void {
  const fixed = (value: number): Register => ({ read: () => value })
  for (let i = 0; i < 6; i++) {
    bank.define(i, 1, {
      read: () => registers.mac[i]!,
      write: (value) => void (registers.mac[i] = value),
    })
  }
  for (let i = 0; i < 8; i++) {
    bank.define(8 + i, 1, {
      read: () => registers.groups[i]!,
      write: (value) => void (registers.groups[i] = value),
    })
  }
  for (let i = 0; i < 4; i++) {
    bank.define(0x10 + 4 * i, 4, {
      read: () => registers.status[i]!,
      write: (value) => card.status(i, value),
    })
    bank.define(0x20 + 4 * i, 4, {
      read: () => registers.address[i]!,
      write: (value) => void (registers.address[i] = value),
    })
  }
  const plain = (at: number, bytes: number, name: 'buffer' | 'ring' | 'ringHigh'): void =>
    bank.define(at, bytes, {
      read: () => registers[name],
      write: (value) => void (registers[name] = value),
    })
  plain(0x30, 4, 'buffer')
  plain(0xe4, 4, 'ring')
  plain(0xe8, 4, 'ringHigh')
  bank.define(0x37, 1, {
    read: () => registers.command | (registers.writeAt === registers.readAt ? COMMAND_EMPTY : 0),
    write: (value) => card.command(value),
  })
  bank.define(0x38, 2, {
    read: () => (registers.readAt - 16) & 0xffff,
    write: (value) => {
      registers.readAt = ((value + 16) & 0xffff) % card.bufferBytes()
      card.feed()
    },
  })
  bank.define(0x3a, 2, { read: () => registers.writeAt })
  bank.define(0x3c, 2, {
    read: () => registers.mask,
    write: (value) => {
      registers.mask = value & CAUSES
      card.changed()
      card.feed()
    },
  })
  bank.define(0x3e, 2, {
    read: () => registers.causes,
    isCommand: true,
    write: (value) => {
      registers.causes &= ~value
      card.changed()
      card.feed()
    },
  })
  bank.define(0x40, 4, {
    read: () => registers.transmitConfig,
    write: (value) => {
      // It can be set while sending is on.
      if ((registers.command & COMMAND_TRANSMIT) === 0) return
      registers.transmitConfig = (VERSION | (value & TRANSMIT_CONFIG)) >>> 0
    },
  })
  bank.define(0x44, 4, {
    read: () => registers.receiveConfig,
    write: (value) => {
      registers.receiveConfig = (value & 0x0f03_ffbf) >>> 0
      registers.readAt %= card.bufferBytes()
      registers.writeAt %= card.bufferBytes()
      card.feed()
    },
  })
  bank.define(0x48, 4, {
    read: () => card.timer.ticks,
    isCommand: true,
    write: () => card.timer.load(card.timer.limit, 0),
  })
  bank.define(0x4c, 4, {
    read: () => registers.missed,
    isCommand: true,
    write: () => void (registers.missed = 0),
  })
  bank.define(0x50, 1, {
    read: () => card.eeprom.read(),
    write: (value) => card.eeprom.write(value),
  })
  for (const [i, [at, writable, other]] of CONFIG.entries()) {
    bank.define(at, 1, {
      read: () => card.config[i]!,
      write: (value) => {
        if (at === CONFIG5 || card.eeprom.isUnlocked) card.config[i] = (value & writable) | other
      },
    })
  }
  bank.define(0x54, 4, {
    read: () => card.timer.limit,
    write: (value) => card.timer.load(value, card.timer.ageNs),
  })
  bank.define(0x58, 1, { read: () => 0xd0 | (card.isUp() ? 0 : 0x04) })
  bank.define(0x5b, 1, fixed(1))
  bank.define(0x5e, 1, fixed(0x20))
  bank.define(0x60, 2, { read: () => summary(registers) })
  for (const [i, [at, , writable]] of PHY.entries()) {
    bank.define(at, 2, {
      read: () => card.phy[i]!,
      write: (value) => void (card.phy[i] = (card.phy[i]! & ~writable) | (value & writable)),
    })
  }
  bank.define(0xd9, 1, {
    read: () => 0,
    write: (value) => {
      if ((value & 0x01) !== 0) card.raise(CAUSE_SOFTWARE)
      if ((value & 0xc0) !== 0) card.run()
    },
  })
  bank.define(0xe0, 2, {
    read: () => registers.cplus,
    write: (value) => void (registers.cplus = value & 0x7b),
  })
  bank.define(0xec, 1, {
    read: () => registers.threshold,
    write: (value) => void (registers.threshold = value),
  })
}

/** TSAD: four bits of each of the four descriptors of the mode of before. */
function summary({ status }: Rtl8139Registers): number {
  return status.reduce((word, tsd, i) => {
    const bit = (from: number, to: number): number => ((tsd >>> from) & 1) << (to + i)
    return word | bit(15, 12) | bit(14, 8) | bit(30, 4) | bit(13, 0)
  }, 0)
}
