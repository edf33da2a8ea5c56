// What virt-install makes by itself for several guests, and that it starts.
import { execFile, spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { folder, startDaemon } from './support/daemon.ts'

const missing = !hasVirsh
  ? 'virsh'
  : spawnSync('virt-install', ['--version']).status === 0
    ? undefined
    : 'virt-install'
const OVMF = '/usr/share/OVMF/OVMF_CODE_4M.fd'

interface Guest {
  name: string
  args: string
  /** What its definition has. */
  has: readonly RegExp[]
  needs?: string
}

/** `ISO` is an image of a CD. */
const GUESTS: readonly Guest[] = [
  {
    name: 'nothing-known',
    args: '--import --disk none --osinfo detect=off,require=off',
    has: [/<controller type='usb'/],
  },
  {
    // With a USB controller, ports for everything, a channel for an agent, random numbers.
    name: 'linux-from-cd',
    args: '--cdrom ISO --disk size=1 --osinfo debian11',
    has: [/machine='pc-q35-7.2'/, /qemu-xhci/, /guest_agent/, /<rng/, /device='cdrom'/],
  },
  {
    name: 'windows',
    args: '--cdrom ISO --disk size=1 --osinfo win10 --network default,model=virtio',
    has: [/<clock offset='localtime'>/, /hypervclock/, /<relaxed state='on'\/>/, /bus='sata'/],
  },
  {
    name: 'firmware',
    args: '--import --disk size=1 --osinfo generic --boot uefi',
    has: [/<os firmware='efi'>/, /<nvram template=/],
    needs: OVMF,
  },
]

for (const { name, args, has, needs } of GUESTS) {
  test.serial(`a guest as virt-install describes it runs: ${name}`, async (t) => {
    if (missing !== undefined) return without(t, missing)
    if (needs !== undefined && !existsSync(needs)) return without(t, needs)
    const at = folder(t)
    const { socket } = await startDaemon(t, at)
    const iso = join(at, 'cd.iso')
    writeFileSync(iso, Buffer.alloc(1 << 20))
    const uri = `qemu+unix:///session?socket=${socket}`
    const common = `--name ${name} --memory 64 --virt-type qemu --graphics none --noautoconsole`
    const words = `${common} ${args}`.split(' ').map((word) => (word === 'ISO' ? iso : word))
    const env = { ...process.env, LC_ALL: 'C', HOME: at }
    const run = promisify(execFile)('virt-install', ['--connect', uri, ...words], {
      timeout: 120_000,
      env,
    })
    const { stdout } = await run
    t.regex(stdout, /Domain creation completed|installation may be in progress/i)
    t.regex((await virsh(socket, 'list')).output, new RegExp(`\\d +${name} +running`))
    const { output } = await virsh(socket, 'dumpxml', name)
    for (const part of has) t.regex(output, part)
    // Of an installation the CD is in the drive once.
    const isCd = args.includes('--cdrom')
    t.is((await virsh(socket, 'domblklist', name)).output.includes(iso), isCd)
    t.regex((await virsh(socket, 'dominfo', name)).output, /Persistent: +yes/)
  })
}

test.serial('with a screen, virt-install and virsh say how to do without', async (t) => {
  if (missing !== undefined) return without(t, missing)
  const at = folder(t)
  const { socket } = await startDaemon(t, at)
  const uri = `qemu+unix:///session?socket=${socket}`
  const args =
    '--name screen --memory 64 --virt-type qemu --import --disk none --osinfo detect=off,require=off --noautoconsole'
  const env = { ...process.env, LC_ALL: 'C', HOME: at }
  const install = (...more: string[]): Promise<{ stdout: string }> =>
    promisify(execFile)('virt-install', ['--connect', uri, ...args.split(' '), ...more], {
      timeout: 120_000,
      env,
    })
  const refused = await t.throwsAsync(install('--graphics', 'vnc'))
  const remedy = /\/domain\/devices\/graphics\[1\]: .*virt-install --graphics none/
  t.regex((refused as unknown as { stderr: string }).stderr, remedy)
  const { stdout } = await install('--graphics', 'vnc', '--print-xml')
  const file = join(at, 'screen.xml')
  writeFileSync(file, stdout)
  t.regex((await virsh(socket, 'define', file)).output, /defined/)
  t.regex((await virsh(socket, 'start', 'screen')).output, remedy)
})
