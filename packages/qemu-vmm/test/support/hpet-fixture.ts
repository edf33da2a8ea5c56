import { Hpet } from '../../src/chipset/hpet/hpet.ts'
import { ManualClock } from '../../src/machine/clock.ts'
import { FakeIrq } from './fakes.ts'

/** A timer block, its clock, and what it is connected to. */
export class HpetFixture {
  readonly clock: ManualClock = new ManualClock()
  /** The last one of each number; the HPET has a second one for the RTC. */
  readonly lines: Map<number, FakeIrq> = new Map()
  readonly rtc: FakeIrq = new FakeIrq()
  readonly messages: [address: number, data: number][] = []
  readonly hpet: Hpet
  pitConnected = true

  constructor(routes = 4, options: { timers?: number; msi?: boolean } = {}) {
    this.hpet = new Hpet({
      ...options,
      routes,
      clock: this.clock,
      line: (gsi) => {
        // Asked for first for the comparators, then for the RTC.
        if (this.lines.has(gsi)) return this.rtc
        const line = new FakeIrq()
        this.lines.set(gsi, line)
        return line
      },
      sendMessage: (address, data) => this.messages.push([address, data]),
      setPit: (connected) => {
        this.pitConnected = connected
      },
    })
  }

  edges(gsi: number): number {
    return this.lines.get(gsi)!.edges
  }

  level(gsi: number): boolean {
    return this.lines.get(gsi)!.level
  }

  /** A comparator's register. */
  timer(n: number, register: number, value: number): void {
    this.hpet.write(0x100 + 0x20 * n + register, 4, value)
  }

  config(value: number): void {
    this.hpet.write(0x10, 4, value)
  }

  get counter(): number {
    return this.hpet.read(0xf4, 4) * 2 ** 32 + this.hpet.read(0xf0, 4)
  }
}
