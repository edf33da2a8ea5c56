// Linux with everything on that protects it from its programs: its place in memory, its pages, its gadgets.
import test from 'ava'
import { bootArguments, bootTimeoutMs, withGuest } from '../src/guest.ts'

/** More than the kernel would do for a processor that needs none of it. */
const hardening = 'pti=on spectre_v2=on spec_store_bypass_disable=on slub_debug=FZ page_poison=1'

test.serial('a kernel somewhere in memory, with SMAP and all mitigations', async (t) => {
  t.timeout(bootTimeoutMs)
  const places = new Set<string>()
  for (let boot = 0; boot < 2; boot++) {
    const args = [...bootArguments({ append: hardening }), '-cpu', 'max']
    await withGuest(args, async (guest) => {
      const flags = (await guest.shell('grep ^flags /proc/cpuinfo')).split(/\s+/)
      for (const flag of ['smep', 'smap', 'umip', 'nx', 'pti']) t.true(flags.includes(flag), flag)
      const state = await guest.shell('dmesg | grep -c "page tables isolation: enabled"')
      t.is(state, '1\n')
      t.is(await guest.shell('dmesg | grep -cE "BUG:|WARNING:"'), '0\n')
      places.add(await guest.shell("grep ' _text$' /proc/kallsyms"))
      guest.type('poweroff -f\n')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
    })
  }
  t.is(places.size, 2, [...places].join(''))
})
