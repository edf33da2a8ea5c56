import test from 'ava'
import { XmlError, formatDomain, parseDomain } from '../src/domain/index.ts'

/** A document with as little as possible around what is tested. */
function document(devices: string, around: string = '', machine: string = 'pc'): string {
  return `<domain type='qemu'>
  <name>demo</name>
  <uuid>9c4f4c0e-2b7a-4c29-8d5e-0d1f7f0c6b11</uuid>
  <memory unit='MiB'>64</memory>${around}
  <os><type machine='${machine}'>hvm</type></os>
  <devices>
${devices}
  </devices>
</domain>`
}

function refusal(xml: string): XmlError {
  try {
    parseDomain(xml)
  } catch (error) {
    if (error instanceof XmlError) return error
    throw error
  }
  throw new Error('it was accepted')
}

test('a wrong word is shown with its path, its line, what is right and what was meant', (t) => {
  const error = refusal(
    document("<disk>\n<source file='/a'/>\n<target dev='vda' bus='vrtio'/></disk>"),
  )
  t.is(
    error.message,
    '/domain/devices/disk[1]/target/@bus = "vrtio" (line 9): ' +
      'expected one of ide, fdc, scsi, virtio, xen, usb, uml, sata, sd; did you mean "virtio"?',
  )
  t.is(error.libvirtCode, 27)
  t.is(error.path, '/domain/devices/disk[1]/target/@bus')
})

test('what is missing is named, with what looks like it', (t) => {
  t.regex(
    refusal("<domain type='qemu'><nmae>x</nmae></domain>").message,
    /\/domain\/name \(line 1\): is missing; there is <nmae>/,
  )
  t.regex(
    refusal(document("<interface type='bridge'/>")).message,
    /interface\[1\]\/source .*@bridge/,
  )
})

test('what contradicts itself is refused with the code for what cannot be', (t) => {
  const cases: [string, RegExp][] = [
    [document('', '<vcpu current="4">2</vcpu>'), /vcpu\/@current = "4".*only 2/],
    [document('', '', 'pc-q35-7.3'), /@machine = "pc-q35-7.3".*did you mean "pc-q35-7.2"/],
    [
      document('', '<vcpu>2</vcpu><cpu><topology sockets="1" cores="1" threads="1"/></cpu>'),
      /topology .*1 processors, <vcpu> has 2/,
    ],
    [
      document("<disk><source file='/a'/><target dev='hda' bus='ide'/></disk>", '', 'q35'),
      /no IDE controller/,
    ],
  ]
  for (const [xml, expected] of cases) {
    const error = refusal(xml)
    t.regex(error.message, expected)
    t.is(error.libvirtCode, 67)
  }
})

test('what is not known is kept', (t) => {
  const xml = document("<gizmo a='1'><b>text</b></gizmo>\n<sound model='ac97' loud='yes'/>")
  const text = formatDomain(parseDomain(xml))
  t.regex(text, /<gizmo a="1">\n {6}<b>text<\/b>\n {4}<\/gizmo>/)
  t.regex(text, /<sound model='ac97' loud='yes'>/)
  t.is(formatDomain(parseDomain(text)), text)
})

test('passwords are written only when they are asked for', (t) => {
  const def = parseDomain(document("<graphics type='vnc' passwd='secret'/>"))
  t.notRegex(formatDomain(def), /secret/)
  t.regex(formatDomain(def, { secure: true }), /passwd='secret'/)
})

test('what was defined once is not changed by defining it again', (t) => {
  const devices = `<disk><source file='/a'/><target dev='vda'/></disk>
<interface type='user'/><interface type='user'><model type='virtio'/></interface>
<console/><input type='tablet'/><graphics type='vnc'/><controller type='scsi' model='virtio-scsi'/>`
  for (const machine of ['pc', 'q35']) {
    const once = formatDomain(parseDomain(document(devices, '', machine)))
    t.is(formatDomain(parseDomain(once)), once)
  }
})

test('a running domain has names, numbers and paths of its run', (t) => {
  const def = parseDomain(
    document("<disk><source file='/a'/><target dev='vda'/></disk><console type='pty'/>"),
  )
  const before = formatDomain(def)
  const live = { id: 7, terminals: new Map([['charserial0', '/dev/pts/9']]) }
  const text = formatDomain(def, { live })
  t.regex(text, /^<domain type='qemu' id='7'>/)
  t.regex(text, /<source file='\/a' index='1'\/>\n {6}<backingStore\/>/)
  t.regex(text, /<alias name='virtio-disk0'\/>/)
  t.regex(text, /<console type='pty' tty='\/dev\/pts\/9'>\n {6}<source path='\/dev\/pts\/9'\/>/)
  t.is(formatDomain(def, { live, inactive: true }), before)
  t.is(formatDomain(parseDomain(text)).replaceAll(/\n *<backingStore\/>/g, ''), before)
})
