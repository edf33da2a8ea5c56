import type { Rtc } from '../../src/chipset/rtc.ts'

/** Reads a register of the real-time clock as guests do. */
export function cmosRead(rtc: Rtc, index: number): number {
  rtc.write(0, 1, index)
  return rtc.read(1)
}

export function cmosWrite(rtc: Rtc, index: number, value: number): void {
  rtc.write(0, 1, index)
  rtc.write(1, 1, value)
}
