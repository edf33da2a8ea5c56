import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'

import { checkConfig } from '../src/machine/config-check.ts'
import { commandLine } from './support/command-line.ts'

const { config, refusal } = commandLine('-kernel', 'k', '-nographic', '-nodefaults')
const folder = mkdtempSync(join(tmpdir(), 'cli-config-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

let files = 0
function fileOf(text: string): string {
  const path = join(folder, `config${files++}`)
  writeFileSync(path, text)
  return path
}

test('global: a default for all devices of a kind, which their own options go before', (t) => {
  const { plug } = config(
    '-global',
    'virtio-rng-pci.vectors=5',
    '-global',
    'virtio-rng-pci.vectors=7',
    '-global',
    'driver=pvpanic,property=events,value=1',
    '-device',
    'virtio-rng-pci',
    '-device',
    'virtio-rng-pci,vectors=9',
    '-device',
    'pvpanic',
  )
  t.deepEqual(
    plug?.map(({ properties }) => properties),
    [{ vectors: '7' }, { vectors: '9' }, { events: '1' }],
  )
})

test('global: properties of what is on the board', (t) => {
  const { machine } = config(
    '-global',
    'hpet.timers=8',
    '-global',
    'hpet.msi=on',
    '-global',
    'PIIX4_PM.disable_s3=1',
    '-global',
    'PIIX4_PM.disable_s4=1',
  )
  t.deepEqual(machine?.options, { graphics: false, hpetTimers: 8, hpetMsi: true, suspend: false })
  const base = { memory: 64 << 20, kernel: 'k' }
  t.throws(() => checkConfig({ ...base, machine: { type: 'pc', options: { hpetTimers: 2 } } }), {
    message: /3 to 32/,
  })
  t.regex(refusal('-global', 'hpet.timers=33'), /from 3 to 32/)
  t.regex(refusal('-global', 'PIIX4_PM.disable_s4=0'), /S4/)
  const hotplug = 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support'
  for (const [value, acpiPciHotplug] of [
    ['off', false],
    ['on', true],
  ] as const) {
    const { options } = config('-M', 'q35', '-global', `${hotplug}=${value}`).machine!
    t.like(options, { acpiPciHotplug })
  }
  t.regex(refusal('-global', `${hotplug}=perhaps`), /perhaps/)
})

test('global: what there is not is refused', (t) => {
  t.regex(refusal('-global', 'virtio-rng.vectors=5'), /no device model 'virtio-rng'/)
  t.regex(refusal('-global', 'virtio-rng-pci.vector=5'), /not found.*vectors/)
  t.regex(refusal('-global', 'nonsense'), /driver\.property=value/)
})

test('readconfig: sections are options in the place of the file', (t) => {
  const path = fileOf(`# a machine
[machine]
  type = "q35"
  hpet = "off"

[memory]
  size = "200M"
[smp-opts]
  cpus = "2"
[drive "d0"]
  file = "a,b.qcow2"
  if = "none"
[device "disk"]
  driver = "virtio-blk-pci"
  drive = "d0"
[object "rng"]
  qom-type = "rng-builtin"
[global]
  driver = "virtio-blk-pci"
  property = "bootindex"
  value = "3"
`)
  const found = config('-readconfig', path)
  t.is(found.memory, 200 << 20)
  t.is(found.machine?.type, 'q35')
  t.is(found.machine?.options?.hpet, false)
  t.deepEqual(found.drives, [{ id: 'd0', file: 'a,b.qcow2', deleteWithDevice: true }])
  t.deepEqual(found.plug, [
    { driver: 'virtio-blk-pci', id: 'disk', properties: { drive: 'd0', bootindex: '3' } },
  ])
  t.is(found.objects?.[0]?.id, 'rng')
})

test('readconfig: mistakes are named with their line', (t) => {
  const refuse = (text: string): string => refusal('-readconfig', fileOf(text))
  t.regex(refuse('[machine]\ntype = q35\n'), /config\d+:2: parse error/)
  t.regex(refuse('type = "q35"\n'), /config\d+:1: no group defined/)
  t.regex(refuse('\n[drve "x"]\n'), /config\d+:2: There is no option group 'drve'.*drive/)
  t.regex(refuse('[device]\ndriver = "VGAA"\n'), /config\d+:1: 'VGAA' is not a valid device/)
  t.regex(refuse('[device]\ndriver = "help"\n'), /command line/)
  t.regex(refuse('[global]\ndriver = "VGA"\n'), /'property' is missing/)
  t.regex(refusal('-readconfig', join(folder, 'none')), /Cannot read config file .*No such file/)
  const path = join(folder, 'itself')
  writeFileSync(path, '[readconfig]\nfile = "x"\n')
  t.regex(refusal('-readconfig', path), /There is no option group 'readconfig'/)
})
