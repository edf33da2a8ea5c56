// The command as people type it, on a terminal, which `script` (Debian's bsdutils) makes.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { GuestProcess, command, guestFiles } from '../src/guest.ts'
import { withoutEscapes } from '../src/screen.ts'

const hasScript = spawnSync('script', ['--version']).status === 0
const onTerminal = hasScript ? test.serial : test.serial.skip

onTerminal('without -display the terminal shows the screen, and Ctrl-A x ends', async (t) => {
  const line = `stty rows 30 cols 100; ${command} -m 64 -S -net none`
  const guest = new GuestProcess('script', ['-qec', line, '/dev/null'])
  try {
    // It does not run yet.
    await guest.expect(/The screen is off/)
    guest.type('\u0001x')
    t.deepEqual(await guest.end(), { code: 0, signal: null })
  } finally {
    await guest.kill()
  }
})

onTerminal('a disk as a word boots, and is seen', async (t) => {
  await withFolder(async (folder) => {
    const image = join(folder, 'disk.img')
    // No boot sector: firmware says so, and stays.
    writeFileSync(image, new Uint8Array(1 << 20))
    const line = `stty rows 30 cols 100; ${command} -m 64 -L ${guestFiles.firmware} -net none ${image}`
    const guest = new GuestProcess('script', ['-qec', line, '/dev/null'])
    try {
      await guest.expect(/No bootable device/)
      t.regex(withoutEscapes(guest.output), /SeaBIOS \(version/)
      guest.type('\u0001x')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
    } finally {
      await guest.kill()
    }
  })
})

test.serial('without a terminal the command says that nobody sees the screen', async (t) => {
  const guest = new GuestProcess(command, ['-m', '64', '-S', '-net', 'none'])
  try {
    const until = performance.now() + 60_000
    while (!/no terminal shows the screen/.test(guest.stderr) && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    t.regex(guest.stderr, /^qemu-kvm: no terminal shows the screen of the machine/m)
  } finally {
    await guest.kill()
  }
})
