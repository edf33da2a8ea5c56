// Linux through the published command: what it sees of the options, and the ways in which it ends.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import {
  GuestProcess,
  bootArguments,
  command,
  guestFiles,
  prompt,
  withGuest,
} from '../src/guest.ts'

test.serial('the guest sees memory, command line and CPU as the options say', async (t) => {
  const args = [...bootArguments({ memoryMib: 200, append: 'answer=42' }), '-cpu', 'max,-avx2']
  await withGuest(args, async (guest) => {
    t.regex(await guest.shell('uname -rm'), /^6\.\d+\.\S+-cloud-amd64 x86_64\n$/)
    t.is(await guest.shell('cat /proc/cmdline'), 'console=ttyS0 quiet answer=42\n')
    const total = Number(/MemTotal:\s+(\d+)/.exec(await guest.shell('cat /proc/meminfo'))?.[1])
    t.true(total > 120 * 1024 && total < 200 * 1024, `MemTotal ${total} kB`)
    const [map = ''] = (await guest.shell('grep "System RAM" /proc/iomem | tail -1')).split(' :')
    t.is(map, '00100000-0c7fffff')
    const flags = ((await guest.shell('grep -m1 flags /proc/cpuinfo')).match(/\w+/g) ??
      []) as string[]
    t.true(flags.includes('avx') && flags.includes('sse4_2'))
    t.false(flags.includes('avx2'))
    t.is(await guest.shell('echo $((6 * 7)) | md5sum | cut -c1-8'), '50a2fabf\n')
    t.is(await guest.shell('sleep 1; echo slept'), 'slept\n')
    const interrupts = await guest.shell('cat /proc/interrupts')
    t.regex(interrupts, /\s4:\s+[1-9]\d*\s+IO-APIC\s+4-edge\s+ttyS0/)
    t.regex(interrupts, /LOC:\s+[1-9]/)
    guest.type('poweroff -f\n')
    t.deepEqual(await guest.end(), { code: 0, signal: null })
  })
})

test.serial('a serial port in a file, a reset, and the end by -no-reboot', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'e2e-boot-'))
  try {
    const log = join(folder, 'serial')
    // The second port is a file: the guest writes to it by hand.
    const args = [...bootArguments(), '-serial', 'mon:stdio', '-serial', `file:${log}`]
    await withGuest(args, async (guest) => {
      t.is(await guest.shell('echo to the file >/dev/ttyS1; echo $?'), '0\n')
      guest.type('reboot -f\n')
      await guest.expect(prompt)
      t.regex(await guest.shell('cut -d. -f1 /proc/uptime'), /^\d+\n$/)
      t.is(readFileSync(log, 'latin1'), 'to the file\r\n')
      // The monitor resets as the guest does.
      guest.type('\u0001csystem_reset\n\u0001c')
      await guest.expect(prompt)
      guest.type('poweroff -f\n')
      t.is((await guest.end()).code, 0)
    })
    await withGuest([...bootArguments(), '-no-reboot'], async (guest) => {
      guest.type('reboot -f\n')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
      t.regex(guest.output, /reboot: Restarting system/)
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test.serial('a kernel that dies in a triple fault resets the machine', async (t) => {
  // Without a handler left the kernel resets by loading an empty interrupt table.
  const args = [...bootArguments({ append: 'reboot=triple' }), '-no-reboot']
  await withGuest(args, async (guest) => {
    guest.type('echo b >/proc/sysrq-trigger\n')
    t.deepEqual(await guest.end(), { code: 0, signal: null })
  })
})

test.serial('the monitor inspects, stops, resumes and ends a guest', async (t) => {
  await withGuest(bootArguments(), async (guest) => {
    const monitor = async (line: string): Promise<string> => {
      guest.type('\u0001c')
      await guest.expect(/\(qemu\) $/)
      guest.type(`${line}\n`)
      const answer = await guest.expect(/\r\n[^]*\(qemu\) $/)
      guest.type('\u0001c')
      await guest.expect(/\r\n/)
      return answer
    }
    t.regex(await monitor('info status'), /VM status: running/)
    t.regex(await monitor('info registers'), /RIP=[\da-f]{16}/)
    await monitor('stop')
    t.regex(await monitor('info status'), /VM status: paused/)
    await monitor('cont')
    t.is(await guest.shell('echo alive'), 'alive\n')
    guest.type('\u0001x')
    t.is((await guest.end()).code, 0)
  })
})

test.serial(
  'a kernel without an initial RAM disk panics on its console, and the monitor ends it',
  async (t) => {
    const args = [
      '-m',
      '96',
      '-nographic',
      '-kernel',
      guestFiles.kernel,
      '-append',
      'console=ttyS0',
    ]
    const guest = new GuestProcess(command, args)
    try {
      await guest.expect(/Kernel panic - not syncing: VFS/)
      guest.type('\u0001x')
      t.is((await guest.end()).code, 0)
    } finally {
      await guest.kill()
    }
  },
)
