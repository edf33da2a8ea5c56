// The timer block as Linux finds and uses it.
import test from 'ava'
import { bootArguments, withGuest } from '../src/guest.ts'

const SOURCES = '/sys/devices/system/clocksource/clocksource0'

test.serial('Linux finds the HPET, ticks by it, and reads the time from it', async (t) => {
  await withGuest(bootArguments({ append: 'clocksource=hpet' }), async (guest) => {
    const log = await guest.shell('dmesg | grep -i hpet')
    t.regex(log, /ACPI: HPET 0x[0-9A-F]+ 000038/)
    t.regex(log, /hpet0: at MMIO 0xfed00000, IRQs 2, 8, 0/)
    t.regex(log, /hpet0: 3 comparators, 64-bit 100\.000000 MHz counter/)
    t.regex(await guest.shell(`cat ${SOURCES}/available_clocksource`), /hpet/)
    t.is(await guest.shell(`cat ${SOURCES}/current_clocksource`), 'hpet\n')
    // Ticks came through the comparator before the local APIC had its own.
    t.regex(await guest.shell('cat /proc/interrupts'), /\s0:\s+[1-9]\d*\s+IO-APIC\s+2-edge\s+timer/)
    t.is(await guest.shell('sleep 1; echo slept'), 'slept\n')
  })
})

test.serial('without an HPET the PIT ticks', async (t) => {
  await withGuest([...bootArguments(), '-machine', 'hpet=off'], async (guest) => {
    t.is(await guest.shell('dmesg | grep -ic "hpet0\\|ACPI: HPET"'), '0\n')
    t.notRegex(await guest.shell(`cat ${SOURCES}/available_clocksource`), /hpet/)
    t.regex(await guest.shell('cat /proc/interrupts'), /\s0:\s+[1-9]\d*\s+IO-APIC\s+2-edge\s+timer/)
  })
})
