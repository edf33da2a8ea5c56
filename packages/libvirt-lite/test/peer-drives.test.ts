// libvirt's own daemon with our qemu-kvm as the emulator: every option and command that it needs must be there.
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { findCommand } from '../src/driver/emulator.ts'
import { buttonDisk, diskXml } from './support/button-guest.ts'
import { until } from './support/daemon.ts'
import { Libvirtd, missing } from './support/libvirtd.ts'

test('libvirtd defines, starts, watches, changes and ends a domain on qemu-kvm', async (t) => {
  const lacks = missing()
  if (lacks !== undefined) {
    t.log(`${lacks} is not installed`)
    t.pass()
    return
  }
  const libvirtd = new Libvirtd()
  t.teardown(() => libvirtd.stop())
  // libvirtd passes no environment on, and may run as a user whose path has no Node.js.
  const emulator = join(libvirtd.folder, 'qemu-kvm')
  const command = findCommand('qemu-kvm')!
  const script = `#!/bin/sh\nPATH='${process.execPath.replace(/\/[^/]*$/, '')}':"$PATH" exec '${command}' "$@"\n`
  writeFileSync(emulator, script)
  chmodSync(emulator, 0o755)
  if (!runsForAnybody(emulator)) {
    t.log(`users without rights may not run ${command}`)
    t.pass()
    return
  }
  const disk = buttonDisk(libvirtd.folder)
  chmodSync(disk, 0o666)
  const document = join(libvirtd.folder, 'driven.xml')
  writeFileSync(
    document,
    `<domain type='qemu'>
  <name>driven</name>
  <memory unit='MiB'>128</memory>
  <vcpu current='1'>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>${emulator}</emulator>
    ${diskXml(disk)}
    <controller type='usb' model='none'/>
    <interface type='user'><model type='virtio'/></interface>
    <serial type='pty'/>
  </devices>
</domain>`,
    { mode: 0o644 },
  )
  await libvirtd.start()
  const virsh = (...args: string[]): string => libvirtd.virsh(...args).trim()
  const state = (): string => virsh('domstate', 'driven', '--reason')

  virsh('define', document)
  virsh('start', 'driven', '--paused')
  t.is(state(), 'paused (user)')
  // Its terminal is open before the guest says the only thing that it ever says.
  const terminal = virsh('ttyconsole', 'driven')
  t.regex(terminal, /^\/dev\/pts\/\d+$/)
  const console = spawn('cat', [terminal], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.teardown(() => console.kill())
  let heard = ''
  console.stdout.on('data', (bytes: Buffer) => (heard += bytes.toString('latin1')))
  virsh('resume', 'driven')
  await until(() => heard.includes('R'))
  t.is(state(), 'running (unpaused)')

  const stats = virsh('domstats', 'driven')
  t.regex(stats, /state\.state=1\n/)
  t.regex(stats, /balloon\.maximum=131072\n/)
  t.regex(stats, /vcpu\.current=1\n/)
  virsh('setvcpus', 'driven', '2', '--live')
  t.regex(virsh('vcpucount', 'driven'), /current +live +2$/)
  t.regex(virsh('vcpuinfo', 'driven'), /VCPU: +0\n[^]*VCPU: +1\n/)
  t.regex(stats, /block\.0\.capacity=1048576/)
  t.regex(stats, /block\.0\.rd\.reqs=[1-9]/, 'the firmware has read the boot sector')
  t.regex(virsh('domblkstat', 'driven', 'vda'), /vda rd_req [1-9]/)
  // The guest has no driver for the balloon, so it is asked in vain, as with QEMU.
  virsh('setmem', 'driven', '64M', '--live')
  t.regex(virsh('dommemstat', 'driven'), /actual 131072\n/)
  virsh('suspend', 'driven')
  t.is(state(), 'paused (user)')
  virsh('resume', 'driven')
  virsh('send-key', 'driven', 'KEY_LEFTCTRL', 'KEY_RIGHTCTRL', 'KEY_A')
  t.is(virsh('qemu-monitor-command', 'driven', '--hmp', 'info status'), 'VM status: running')
  virsh('reset', 'driven')
  await until(() => heard.match(/R/g)?.length === 2)
  virsh('shutdown', 'driven')
  await until(() => state() === 'shut off (shutdown)')

  virsh('start', 'driven')
  t.is(state(), 'running (booted)')
  virsh('destroy', 'driven')
  t.is(state(), 'shut off (destroyed)')
  virsh('undefine', 'driven')
  t.is(virsh('list', '--all'), '')
})

/** Whether it can be run by the user whom root starts libvirtd as. */
function runsForAnybody(program: string): boolean {
  if (process.getuid?.() !== 0) return true
  const drop = ['--reuid=65534', '--regid=65534', '--clear-groups']
  return spawnSync('setpriv', [...drop, program, '--version']).status === 0
}
