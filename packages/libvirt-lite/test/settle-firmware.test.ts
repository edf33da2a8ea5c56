// The image that `<os firmware=>` stands for: found by descriptors as QEMU's firmware.json has them.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { parseDomain } from '../src/driver/model.ts'
import type { DomainDefinition } from '../src/driver/model.ts'
import { firmwareKindsOf, settleFirmware } from '../src/driver/settle-firmware.ts'
import { domainXml, folder } from './support/daemon.ts'

const flash = (name: string, features: string[], machines = ['pc-q35-*']): object => ({
  'interface-types': ['uefi'],
  mapping: {
    device: 'flash',
    executable: { filename: `/fw/${name}.fd`, format: 'raw' },
    'nvram-template': { filename: `/fw/${name}_VARS.fd`, format: 'raw' },
  },
  targets: [{ architecture: 'x86_64', machines }],
  features,
})

const IMAGES = {
  '10-arm.json': { ...flash('arm', []), targets: [{ architecture: 'aarch64', machines: ['*'] }] },
  '20-sev.json': flash('sev', ['requires-encryption'], ['*']),
  '40-enrolled.json': flash('enrolled', [
    'acpi-s3',
    'enrolled-keys',
    'requires-smm',
    'secure-boot',
  ]),
  '50-secure.json': flash('secure', ['acpi-s3', 'requires-smm', 'secure-boot']),
  '60-plain.json': flash('plain', ['acpi-s3'], ['pc-i440fx-*', 'pc-q35-7.?']),
  '70-bios.json': {
    'interface-types': ['bios'],
    mapping: { device: 'memory', filename: '/fw/bios.bin' },
    targets: [{ architecture: 'x86_64', machines: ['pc-*'] }],
    features: [],
  },
}

function parse(machine: string, os: string, features: string, more = ''): DomainDefinition {
  const xml = domainXml('auto', { more: `<features><acpi/>${features}</features>${more}` }).replace(
    "<os><type arch='x86_64' machine='pc'>",
    `<os${os}<type arch='x86_64' machine='${machine}'>`,
  )
  return parseDomain(xml, {
    emulator: '/usr/bin/qemu-kvm',
    machines: [
      { name: 'pc-i440fx-7.2', alias: 'pc' },
      { name: 'pc-q35-7.2', alias: 'q35' },
    ],
    stateDir: '/state',
  })
}

test('the first image is taken that has what is asked for and needs nothing that is not there', (t) => {
  const place = folder(t)
  for (const [name, image] of Object.entries(IMAGES)) {
    writeFileSync(join(place, name), JSON.stringify(image))
  }
  const image = (...args: Parameters<typeof parse>): string | undefined =>
    settleFirmware(parse(...args), '/nvram', [place]).os?.loader?.value
  const efi = " firmware='efi'>"
  t.is(image('q35', efi, ''), '/fw/enrolled.fd')
  t.is(image('q35', efi, "<smm state='off'/>"), '/fw/plain.fd')
  t.is(image('pc', efi, ''), '/fw/plain.fd')
  const feature = (name: string, enabled: string): string =>
    `<firmware><feature enabled='${enabled}' name='${name}'/></firmware>`
  t.is(image('q35', `${efi}${feature('enrolled-keys', 'no')}`, ''), '/fw/secure.fd')
  t.is(image('q35', `${efi}${feature('secure-boot', 'no')}`, ''), '/fw/plain.fd')
  t.is(image('q35', `${efi}<loader secure='no'/>`, ''), '/fw/plain.fd')
  t.is(image('q35', `${efi}<loader secure='yes'/>`, ''), '/fw/enrolled.fd')
  t.throws(() => parse('q35', `${efi}<loader secure='yes'/>`, "<smm state='off'/>"), {
    message: /requires SMM/,
  })
  t.is(image('pc', " firmware='bios'>", ''), '/fw/bios.bin')
  t.is(image('pc', '>', ''), undefined)
  const sleep = '<pm><suspend-to-disk enabled="yes"/></pm>'
  t.throws(() => image('pc', efi, '', sleep), { message: /Unable to find 'efi' firmware.*ovmf/ })
  t.throws(() => image('pc', `${efi}${feature('secure-boot', 'yes')}`, ''), {
    message: /Unable to/,
  })

  const { os, features } = settleFirmware(parse('q35', efi, ''), '/nvram', [place])
  t.like(os, {
    loader: { readonly: true, secure: true, type: 'pflash' },
    nvram: { template: '/fw/enrolled_VARS.fd', value: '/nvram/auto_VARS.fd' },
  })
  t.deepEqual(features?.smm, { state: true })
  t.deepEqual(firmwareKindsOf('pc-i440fx-7.2', [place]), ['bios', 'efi'])
})

test('a later folder has its own of a name, or hides it; what is none is passed over', (t) => {
  const [first, second] = [folder(t), folder(t)]
  mkdirSync(join(first, 'folder.json'))
  writeFileSync(join(first, '10-broken.json'), '{')
  writeFileSync(join(first, '20-null.json'), 'null')
  writeFileSync(join(first, '40-a.json'), JSON.stringify(flash('a', [])))
  writeFileSync(join(first, '50-b.json'), JSON.stringify(flash('b', [])))
  writeFileSync(join(first, '60-c.txt'), JSON.stringify(flash('c', [])))
  writeFileSync(join(second, '40-a.json'), '')
  const image = (...folders: string[]): string | undefined =>
    settleFirmware(parse('q35', " firmware='efi'>", ''), '/nvram', folders).os?.loader?.value
  t.is(image(first), '/fw/a.fd')
  t.is(image(first, second), '/fw/b.fd')
  t.throws(() => image(second, join(second, 'missing')), { message: /Unable to find/ })
})
