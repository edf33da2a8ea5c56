// Linux suspends to RAM and resumes, on two processors.
import test from 'ava'

import { bootArguments, withGuest } from '../src/guest.ts'

test.serial('Linux suspends to RAM and goes on when the alarm wakes it', async (t) => {
  const args = [...bootArguments({ append: 'answer=42' }), '-smp', '2', '-cpu', 'max']
  await withGuest(args, async (guest) => {
    t.regex(await guest.shell('cat /sys/power/mem_sleep'), /deep/)
    await guest.shell('echo kept > /tmp/file; echo +2 > /sys/class/rtc/rtc0/wakealarm')
    t.is(await guest.shell('echo mem > /sys/power/state; cat /tmp/file'), 'kept\n')
    const log = await guest.shell('dmesg | grep -E "PM: suspend|Low-level resume|CPU1 is up"')
    t.regex(log, /suspend entry \(deep\)[^]*Low-level resume[^]*CPU1 is up[^]*suspend exit/)
    guest.type('poweroff -f\n')
    t.is((await guest.end()).code, 0)
  })
})
