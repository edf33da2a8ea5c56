// A guest that computes, makes code and processes and throws them away, in a code cache that is always too small: no
// result may be wrong. A few rounds, or half an hour of them with LONG=1; SEED=n begins with another one.
import { existsSync } from 'node:fs'
import test from 'ava'
import { bootArguments, guestFiles, prompt, withGuest } from '../src/guest.ts'
import { soakErrors, soakJobs, soakScript, soakSetup } from '../src/soak.ts'

const long = process.env['LONG'] === '1'
const rounds = 3
const durationMs = 30 * 60_000
const first = Number(process.env['SEED'] ?? 20_261_127)
/** With the disk that has gcc a round takes a minute. */
const compiler = long && existsSync(guestFiles.programs)

/** A number of `info jit`, which the monitor behind Ctrl-A prints. */
function count(table: string, what: string): number {
  return Number(new RegExp(`${what} +(\\d+)`).exec(table)?.[1])
}

test.serial('results are right in a code cache of 4 MiB', async (t) => {
  t.timeout(durationMs + 30 * 60_000)
  const disk = `file=${guestFiles.programs},if=virtio,format=raw,snapshot=on`
  const args = [
    ...bootArguments({
      memoryMib: 512,
      ...(compiler ? { initrd: guestFiles.diskInitrd, append: 'root=/dev/vda' } : {}),
    }),
    ...(compiler ? ['-drive', disk] : []),
    ...'-cpu max -smp 2 -accel tcg,tb-size=4'.split(' '),
  ]
  await withGuest(args, async (guest) => {
    await guest.shell('stty -echo')
    await guest.shell(soakSetup)
    const start = performance.now()
    let done = 0
    while (long ? performance.now() - start < durationMs : done < rounds) {
      const jobs = soakJobs(first + done, compiler)
      guest.type(`cat >/tmp/round <<'EOF'\n${soakScript(jobs)}EOF\n`)
      await guest.expect(prompt)
      const output = await guest.shell('sh /tmp/round')
      t.deepEqual(soakErrors(jobs, output), [], `SEED=${first + done}`)
      done++
    }
    guest.type('\u0001c')
    await guest.expect(/\(qemu\) $/)
    guest.type('info jit\n')
    const table = await guest.expect(/\(qemu\) $/)
    const resets = count(table, 'times all code was dropped')
    t.log(
      `${done} rounds from seed ${first}, ${compiler ? 'with' : 'without'} gcc, ${resets} resets`,
    )
    t.true(resets > 2, table)
    t.true(count(table, 'bytes of host code') <= 2 * (4 << 20), table)
    guest.type('\u0001c\npoweroff -f\n')
    t.deepEqual(await guest.end(), { code: 0, signal: null })
  })
})
