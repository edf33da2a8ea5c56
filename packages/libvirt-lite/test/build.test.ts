import test from 'ava'
import {
  XmlError,
  buildDomain,
  domainArgv,
  formatDomain,
  parseDomain,
} from '../src/domain/index.ts'

test('what is built is what would be read', (t) => {
  const builder = buildDomain('built')
    .memory(256)
    .vcpus(2)
    .disk('/a.qcow2')
    .disk('/b.img', { format: 'raw' })
    .cdrom()
    .network({ mac: '52:54:00:00:00:07' })
    .console()
    .agent()
    .rng()
  const def = builder.build()
  const text = formatDomain(def)
  // Read back, controllers of a type come together, as in libvirt; from then on nothing changes.
  const again = formatDomain(parseDomain(text))
  t.is(formatDomain(parseDomain(again)), again)
  t.deepEqual(again.split('\n').toSorted(), text.split('\n').toSorted())
  t.deepEqual(
    def.devices?.disks?.map(({ target }) => target?.dev),
    ['vda', 'vdb', 'sda'],
  )
  t.is(def.memory?.value, 256 * 1024)
  t.regex(domainArgv(def, { qmpSocket: '/q', stateDir: '/s' }).args.join(' '), /-m size=262144k/)
  t.not(builder.build().uuid, def.uuid)
})

test('what is built by a program is checked as well', (t) => {
  const error = t.throws(
    () =>
      buildDomain('built')
        .machine('pc')
        .change((def) => void (def.vcpu = { value: 1, current: 2 }))
        .build(),
    { instanceOf: XmlError },
  )
  t.is(error?.libvirtCode, 67)
})
