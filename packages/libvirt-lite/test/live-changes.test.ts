// What virsh changes of domains besides their devices, and what it asks about them.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { buttonDisk, diskXml } from './support/button-guest.ts'
import { hasVirsh, virsh, watchEvents, without } from './support/clients.ts'
import { domainXml, folder, startDaemon, until } from './support/daemon.ts'
import { qemu } from './support/libvirtd.ts'

async function setup(t: ExecutionContext, emulator?: string) {
  const at = folder(t)
  const daemon = await startDaemon(t, at)
  const file = join(at, 'a.xml')
  const devices = `${diskXml(buttonDisk(at))}<video><model type='vga'/></video>`
  writeFileSync(file, domainXml('a', { devices, ...(emulator && { emulator }) }))
  await virsh(daemon.socket, 'define', file)
  /** Runs each command, and compares what it says. */
  const steps = async (list: readonly (readonly [string, RegExp])[]): Promise<void> => {
    for (const [command, expected] of list) {
      const { output } = await virsh(daemon.socket, ...command.split(' '))
      t.regex(output, expected, command)
    }
  }
  return { ...daemon, at, steps }
}

test.serial('memory: what a guest has, can have, and says of it', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const { steps } = await setup(t)
  await steps([
    ['setmem a 32M', /error: .*domain is not running/],
    ['setmem a 32M --config', /^\n$/],
    ['dumpxml a', /<memory unit='KiB'>65536<.*\n.*<currentMemory unit='KiB'>32768</],
    ['setmem a 128M --config', /cannot set memory higher than max memory/],
    ['setmaxmem a 128M --config', /^\n$/],
    ['dumpxml a', /<memory unit='KiB'>131072<.*\n.*<currentMemory unit='KiB'>32768</],
    ['setmaxmem a 16M', /^\n$/],
    ['dumpxml a', /<memory unit='KiB'>16384<.*\n.*<currentMemory unit='KiB'>16384</],
    ['setmaxmem a 64M', /^\n$/],
    ['dommemstat a', /domain is not running/],
    ['start a', /started/],
    ['setmem a 32M', /^\n$/],
    ['dommemstat a --period 2 --live --config', /^\n$/],
    ['dommemstat a', /actual 65536\nlast_update 0\nrss \d+/],
    ['dumpxml a --inactive', /<stats period='2'\/>/],
    ['setmaxmem a 128M', /cannot resize the maximum memory on an active domain/],
    ['dominfo a', /Max memory: +65536 KiB\nUsed memory: +65536 KiB/],
    ['destroy a', /destroyed/],
  ])
})

test.serial('processors: as many as are defined, and more at the next start', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const { steps } = await setup(t)
  await steps([
    ['start a', /started/],
    ['setvcpus a 2', /greater than max allowable vcpus for the live domain: 2 > 1/],
    ['setvcpus a 1', /^\n$/],
    ['setvcpus a 2 --config', /for the persistent domain: 2 > 1/],
    ['setvcpus a 4 --config --maximum', /^\n$/],
    ['vcpucount a', /maximum +config +4\nmaximum +live +1\ncurrent +config +1\ncurrent +live +1\n/],
    ['setvcpus a 3 --config', /^\n$/],
    ['dumpxml a --inactive', /<vcpu placement='static' current='3'>4</],
    ['setvcpus a 0 --config', /error: /],
    ['vcpucount a --guest', /guest agent is not configured/],
    ['vcpuinfo a', /VCPU: +0\nCPU: +\d+\nState: +running\nCPU time: +[\d.]+s\nCPU Affinity: +y/],
    ['destroy a', /destroyed/],
    ['vcpucount a --live', /domain is not running/],
  ])
})

for (const [name, emulator] of [['qemu-kvm'], ...(existsSync(qemu) ? [['QEMU', qemu]] : [])]) {
  test.serial(
    `a processor as of the host is described by model and features: ${name}`,
    async (t) => {
      if (!hasVirsh) return without(t, 'virsh')
      const { socket, at } = await setup(t)
      const file = join(at, 'cpu.xml')
      const run = async (mode: string): Promise<string> => {
        const more = `<cpu mode='${mode}'/>`
        writeFileSync(file, domainXml('m', { more, ...(emulator && { emulator }) }))
        t.regex((await virsh(socket, 'create', file)).output, /created/)
        const { output } = await virsh(socket, 'dumpxml', 'm')
        await virsh(socket, 'destroy', 'm')
        return /<cpu [^>]*\/>|<cpu [^]*?<\/cpu>/.exec(output)?.[0] ?? ''
      }
      const model = await run('host-model')
      t.regex(
        model,
        /^<cpu mode='custom' match='exact' check='full'>\n +<model fallback='forbid'>qemu64</,
      )
      t.regex(model, /<feature policy='require' name='sse4\.1'\/>/)
      // It describes the same: a domain that is defined so has the same features.
      t.is(await run('maximum'), "<cpu mode='maximum' check='none'/>")
      const again = domainXml('m', { more: model, ...(emulator && { emulator }) })
      writeFileSync(file, again)
      t.regex((await virsh(socket, 'create', file)).output, /created/)
      await virsh(socket, 'destroy', 'm')
    },
  )
}

test.serial('title, description and metadata, and the event that tells of them', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const { steps, socket } = await setup(t)
  const uri = 'http://example.org/a'
  const events = watchEvents(t, socket, 'a', '--event', 'metadata-change')
  await steps([
    ['desc a', /No description for domain: a/],
    ['desc a a few words', /description updated/],
    ['desc a', /^a few words$/m],
    ['desc a --title short', /title updated/],
    ['list --all --title', /a +shut off +short/],
    [`metadata a ${uri}`, /Requested metadata element is not present/],
    [`metadata a ${uri} --key app --set <x><y>1</y></x>`, /Metadata modified/],
    [`metadata a ${uri}`, /^<x>\n  <y>1<\/y>\n<\/x>/],
    ['dumpxml a', new RegExp(`<app:x xmlns:app="${uri}">\n +<app:y>1</app:y>\n +</app:x>`)],
    [`metadata a ${uri} --key 1 --set <x/>`, /expected the prefix of a namespace/],
    [`metadata a ${uri} --key app --set <x>`, /error: /],
    ['start a', /started/],
    [`metadata a ${uri} --key app --set <z/> --live`, /Metadata modified/],
    [`metadata a ${uri} --live`, /^<z\/>/],
    [`metadata a ${uri} --config`, /^<x>/],
    [`metadata a ${uri} --remove --live --config`, /Metadata removed/],
    ['dumpxml a', /<description>a few words<\/description>\n  <memory/],
    ['destroy a', /destroyed/],
    ['dumpxml a', /<description>a few words<\/description>\n  <memory/],
  ])
  // What could not be read again is not kept.
  for (const args of [
    ['desc', 'a', '--title', 'x\u0001y'],
    ['desc', 'a', '--live', 'x\u001by'],
    ['metadata', 'a', 'urn:\u0001', '--key', 'k', '--set', '<a/>'],
    ['metadata', 'a', uri, '--key', 'p', '--set', '<p:a xmlns:p="urn:p"/>'],
  ]) {
    t.is((await virsh(socket, ...args)).code, 1, args.join(' '))
  }
  await until(() => events.output().includes(`domain 'a': type element, uri ${uri}`))
  t.regex(events.output(), /'metadata-change' for domain 'a': type title, uri <null>/)
})

test.serial(
  'virsh edit changes a definition with an editor, or says what is wrong with it',
  async (t) => {
    if (!hasVirsh) return without(t, 'virsh')
    const { socket, at } = await setup(t)
    const edit = async (expression: string): Promise<string> => {
      const editor = join(at, 'editor.sh')
      writeFileSync(editor, `#!/bin/sh\nsed -i '${expression}' "$1"\n`, { mode: 0o755 })
      process.env['EDITOR'] = editor
      try {
        return (await virsh(socket, 'edit', 'a')).output
      } finally {
        delete process.env['EDITOR']
      }
    }
    t.regex(await edit('s/65536/98304/'), /Domain 'a' XML configuration edited/)
    t.regex((await virsh(socket, 'dominfo', 'a')).output, /Max memory: +98304 KiB/)
    t.regex(await edit(''), /configuration not changed/)
    // It asks whether to try again, and takes silence for no.
    await edit('s/98304/many/')
    t.regex((await virsh(socket, 'dominfo', 'a')).output, /Max memory: +98304 KiB/)
  },
)

for (const [name, emulator] of [['qemu-kvm'], ...(existsSync(qemu) ? [['QEMU', qemu]] : [])]) {
  test.serial(`the screen, keys, and counters of disks: ${name}`, async (t) => {
    if (!hasVirsh) return without(t, 'virsh')
    const { steps, at, socket } = await setup(t, emulator)
    const picture = join(at, 'picture.png')
    await steps([
      ['screenshot a', /domain is not running/],
      ['start a', /started/],
      [`screenshot a ${picture}`, /Screenshot saved to .*, with type of image\/png/],
      [`screenshot a ${picture} --screen 1`, /no such screen ID/],
      ['send-key a KEY_LEFTCTRL KEY_LEFTALT KEY_DELETE', /^\n$/],
      ['send-key a --codeset xt 30 --holdtime 50', /^\n$/],
      ['send-key a --codeset usb 4', /cannot translate keycode 4/],
      ['send-key a 999', /cannot translate keycode 999 of linux codeset/],
      ['domblkstat a vdx', /invalid path: vdx/],
      ['domifstat a vnet0', /'vnet0' is not a known interface/],
      ['domblkinfo a vda', /Capacity: +1048576\nAllocation: +\d+\nPhysical: +1048576/],
      ['qemu-monitor-command a --hmp nonsense', /unknown command|nonsense/],
      ['qemu-monitor-command a {"execute":"nonsense"}', /nonsense/],
    ])
    t.deepEqual(readFileSync(picture).subarray(0, 8), Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'))
    // The firmware reads the boot sector in a while.
    await until(async () => {
      const { output } = await virsh(socket, 'domblkstat', 'a', 'vda')
      return Number(/rd_bytes (\d+)/.exec(output)?.[1] ?? 0) >= 512
    })
    t.regex((await virsh(socket, 'domblkstat', 'a')).output, /^ rd_req [1-9]/m)
  })
}
