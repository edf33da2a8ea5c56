// What may be called by clients that may only read, beside libvirt's own daemon.
import { once } from 'node:events'
import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { PROCEDURES, VirtError } from '../src/rpc/index.ts'
import { decodeError, encode } from '../src/rpc/message.ts'
import { folder, startDaemon } from './support/daemon.ts'
import { Libvirtd, missing } from './support/libvirtd.ts'
import { Raw } from './support/rig.ts'

const OPEN_READ_ONLY = 1

test('procedures that libvirt refuses to who may only read are refused here', async (t) => {
  const lacks = missing()
  if (lacks !== undefined) {
    t.log(`${lacks} is not installed`)
    t.pass()
    return
  }
  const libvirtd = new Libvirtd()
  t.teardown(() => libvirtd.stop())
  await libvirtd.start()
  const socket = connect({ path: join(libvirtd.folder, 'run/libvirt/libvirt-sock') })
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  const peer = new Raw(socket)
  peer.call(PROCEDURES.AUTH_LIST.number, Buffer.alloc(0))
  await peer.next()
  const open = { uri: 'qemu:///session', flags: OPEN_READ_ONLY }
  peer.call(PROCEDURES.CONNECT_OPEN.number, encode(PROCEDURES.CONNECT_OPEN.args, open))
  t.is((await peer.next()).status, 0)
  const differences: string[] = []
  for (const [name, { number, args, isRead }] of Object.entries(PROCEDURES)) {
    if (['AUTH_LIST', 'CONNECT_OPEN', 'CONNECT_CLOSE'].includes(name)) continue
    // Zeros are the shortest arguments that are well-formed.
    peer.call(number, Buffer.alloc(args.size))
    const { status, payload } = await peer.next()
    const refusal = status === 0 ? '' : decodeError(payload).message
    const isForbidden = refusal.includes('read only access prevents')
    // Some look at their arguments first.
    const isUnclear = !isRead && /must not be NULL|invalid argument/.test(refusal)
    if (isForbidden === isRead && !isUnclear) differences.push(`${name}: ${refusal}`)
  }
  t.deepEqual(differences, [])
})

test('a client that may only read has no program run', async (t) => {
  const at = folder(t)
  const program = join(at, 'program')
  writeFileSync(program, `#!/bin/sh\ntouch '${at}/was-run'\n`)
  chmodSync(program, 0o755)
  const { client: open } = await startDaemon(t, at)
  const client = await open({ suffix: '-ro' })
  const asked = { arch: undefined, machine: undefined, type: undefined, flags: 0 }
  const error = await t.throwsAsync(
    client.call('CONNECT_GET_DOMAIN_CAPABILITIES', { emulator: program, ...asked }),
    { instanceOf: VirtError },
  )
  t.is(error.code, 29)
  t.false(existsSync(join(at, 'was-run')))
})
