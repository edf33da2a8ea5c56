// TLS with certificates of both ends: our client, virsh, and those who are to be refused.
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { parseOptions } from '../src/cli/options.ts'
import { DaemonError } from '../src/daemon/daemon-error.ts'
import { Client } from '../src/rpc/index.ts'
import type { TlsCredentials } from '../src/rpc/index.ts'
import { hasVirsh, without } from './support/clients.ts'
import { domainXml, folder, startDaemon, until } from './support/daemon.ts'

const hasOpenssl = spawnSync('openssl', ['version']).status === 0

/** Makes an authority, and what it signs, in folders as libvirt has them. */
function authority(at: string): (name: 'server' | 'client', subject: string) => void {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: at, stdio: 'ignore' })
  }
  mkdirSync(at, { recursive: true })
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl(
    'req',
    '-x509',
    ...ec,
    '-keyout',
    'cakey.pem',
    '-out',
    'cacert.pem',
    '-days',
    '2',
    '-subj',
    '/CN=authority',
  )
  return (name, subject) => {
    openssl(
      'req',
      ...ec,
      '-keyout',
      `${name}key.pem`,
      '-out',
      `${name}.csr`,
      '-subj',
      `/CN=${subject}`,
    )
    const usage = name === 'server' ? 'serverAuth' : 'clientAuth'
    const extensions = `extendedKeyUsage=${usage}\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n`
    writeFileSync(join(at, `${name}.ext`), extensions)
    const sign = ['-CA', 'cacert.pem', '-CAkey', 'cakey.pem', '-CAcreateserial', '-days', '2']
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      ...sign,
      '-extfile',
      `${name}.ext`,
      '-out',
      `${name}cert.pem`,
    )
    chmodSync(join(at, `${name}key.pem`), 0o600)
  }
}

const credentials = (at: string): TlsCredentials => ({
  ca: readFileSync(join(at, 'cacert.pem')),
  cert: readFileSync(join(at, 'clientcert.pem')),
  key: readFileSync(join(at, 'clientkey.pem')),
})

/** Waits until a connection has ended, for whatever reason. */
const gone = (socket: Socket): Promise<void> =>
  new Promise((resolve) => socket.once('close', () => resolve()))

async function setup(t: ExecutionContext) {
  const at = folder(t)
  const pki = join(at, 'pki')
  const sign = authority(pki)
  sign('server', 'localhost')
  sign('client', 'ann')
  const tls = { host: '127.0.0.1', port: 0, pki }
  const running = await startDaemon(t, at, { tls })
  const address = running.daemon.addresses.find((it) => it?.startsWith('127.0.0.1:'))
  return { ...running, at, pki, port: Number(address?.split(':')[1]) }
}

test('who has a certificate of the authority may do everything, and others nothing', async (t) => {
  if (!hasOpenssl) return without(t, 'openssl')
  const { at, pki, port, log } = await setup(t)
  const client = await Client.open({ port, tls: credentials(pki) })
  t.is((await client.call('CONNECT_IS_SECURE', undefined)).secure, true)
  await client.call('DOMAIN_DEFINE_XML', { xml: domainXml('a') })
  t.is((await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })).count, 1)
  await client.close()

  // Of an authority of its own, or none at all.
  const other = join(at, 'other')
  authority(other)('client', 'eve')
  copyFileSync(join(pki, 'cacert.pem'), join(other, 'cacert.pem'))
  await t.throwsAsync(Client.open({ port, tls: credentials(other) }))
  const bare = connectTls({ port, host: 'localhost', ca: readFileSync(join(pki, 'cacert.pem')) })
  bare.on('error', () => undefined)
  const heard: Buffer[] = []
  bare.on('data', (chunk: Buffer) => heard.push(chunk))
  await gone(bare)
  t.deepEqual(heard, [])
  // Nor does a client believe a server of another authority.
  const stranger = { ...credentials(pki), ca: readFileSync(join(at, 'other/clientcert.pem')) }
  await t.throwsAsync(Client.open({ port, tls: stranger }), { message: /certificate/ })
  const plain = connect({ port, host: '127.0.0.1' })
  plain.on('error', () => undefined)
  plain.write('hello, this is no TLS\n'.repeat(100))
  await gone(plain.resume())
  await until(() => log.filter((line) => line.includes('was refused')).length >= 3)
  const again = await Client.open({ port, tls: credentials(pki) })
  await again.close()
})

test('a certificate that was revoked is refused', async (t) => {
  if (!hasOpenssl) return without(t, 'openssl')
  const { pki, port, daemon, at } = await setup(t)
  await (await Client.open({ port, tls: credentials(pki) })).close()
  writeFileSync(join(pki, 'index.txt'), '')
  writeFileSync(
    join(pki, 'ca.cnf'),
    '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=2\n',
  )
  const ca = ['ca', '-config', 'ca.cnf', '-keyfile', 'cakey.pem', '-cert', 'cacert.pem']
  const options = { cwd: pki, stdio: 'ignore' as const }
  execFileSync('openssl', [...ca, '-revoke', 'clientcert.pem'], options)
  execFileSync('openssl', [...ca, '-gencrl', '-out', 'cacrl.pem'], options)
  await daemon.stop()
  const tls = { host: '127.0.0.1', port: 0, pki }
  const next = await startDaemon(t, at, { tls })
  const address = next.daemon.addresses.find((it) => it?.startsWith('127.0.0.1:'))
  const again = { port: Number(address?.split(':')[1]), tls: credentials(pki) }
  await t.throwsAsync(Client.open(again))
})

test('virsh connects by TLS', async (t) => {
  if (!hasOpenssl || !hasVirsh) return without(t, 'openssl or virsh')
  const { pki, port } = await setup(t)
  const run = async (...args: string[]): Promise<string> => {
    const uri = `qemu+tls://localhost:${port}/session?pkipath=${pki}`
    const options = { env: { ...process.env, LC_ALL: 'C' }, timeout: 30_000 }
    return (await promisify(execFile)('virsh', ['-c', uri, ...args], options)).stdout
  }
  t.regex(await run('list', '--all'), /Name/)
  t.regex(await run('uri'), /qemu\+tls:\/\/localhost/)
  t.regex(await run('nodeinfo'), /x86_64/)
  authority(join(pki, 'other'))('client', 'eve')
  for (const name of ['clientcert.pem', 'clientkey.pem']) {
    copyFileSync(join(pki, 'other', name), join(pki, name))
  }
  await t.throwsAsync(run('list'), { message: /failed to connect/ })
})

test('what is wrong with certificates is said at the start', async (t) => {
  if (!hasOpenssl) return without(t, 'openssl')
  t.throws(() => parseOptions(['--state', 's', '--socket', 'p', '--listen-tls', '127.0.0.1:1']), {
    instanceOf: DaemonError,
    message: /belong together/,
  })
  const at = folder(t)
  const pki = join(at, 'pki')
  const refused = async (message: RegExp): Promise<void> => {
    const tls = { host: '127.0.0.1', port: 0, pki }
    await t.throwsAsync(startDaemon(t, at, { tls }), { instanceOf: DaemonError, message })
  }
  await refused(/TLS needs '.*cacert\.pem'/)
  authority(pki)('server', 'localhost')
  chmodSync(join(pki, 'serverkey.pem'), 0o644)
  await refused(/others may read the key .*chmod 600/)
  chmodSync(join(pki, 'serverkey.pem'), 0o600)
  writeFileSync(join(pki, 'servercert.pem'), 'nonsense')
  await refused(/certificates of '.*pki' cannot be used/)
})
