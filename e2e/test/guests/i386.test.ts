// Debian's kernel for 32-bit machines and 32-bit programs on it. Only `npm run test:guests` has them.
import test from 'ava'
import { bootArguments, guestFiles, withGuest } from '../../src/guest.ts'

/** They are not this machine's own packages. */
const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip

/** A number that `info jit` of the monitor shows. */
function counted(text: string, name: string): number {
  return Number(new RegExp(`${name} +([0-9]+)`).exec(text)?.[1] ?? Number.NaN)
}

wanted(
  'a 32-bit kernel boots to its shell, and hardly an instruction is interpreted',
  async (t) => {
    t.timeout(600_000)
    const files = { kernel: guestFiles.kernel32, initrd: guestFiles.initrd32 }
    const args = [...bootArguments({ memoryMib: 512, ...files }), '-accel', 'tcg']
    await withGuest(args, async (guest) => {
      t.regex(await guest.shell('uname -rm'), /^6\.\d+\.\S+-686-pae i686\n$/)
      t.is(
        await guest.shell('dmesg | grep -c "x86/PAE\\|NX (Execute Disable) protection: active"'),
        '1\n',
      )
      // Sums of more than 32 bits, pipes, signals.
      t.is(await guest.shell('echo $((1 << 40)) $((7 ** 20))'), '1099511627776 79792266297612001\n')
      t.is(await guest.shell('seq 1 20000 | sort -r | md5sum | cut -c1-8'), 'c7345da8\n')
      t.regex(await guest.shell("sh -c 'sleep 100 & sleep 1; kill $!; wait $!; echo $?'"), /^143$/m)
      t.is(await guest.shell('dmesg | grep -ciE "oops|bug:|protection fault|call trace"'), '0\n')
      guest.type('\u0001cinfo jit\n')
      const seen = await guest.expect(/of these for branches +[0-9]+/)
      t.true(counted(seen, 'regions translated') > 5000, seen)
      guest.type('\u0001c')
      guest.type('poweroff -f\n')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
    })
  },
)
