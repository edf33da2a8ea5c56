import test from 'ava'

import { shortChardev } from '../src/cli/options/char-short.ts'
import { parseCommand } from '../src/cli/parse.ts'
import type { SocketSettings } from '../src/cli/settings.ts'

test('wrong keys of a character device are refused', (t) => {
  const cases: [string, RegExp][] = [
    ['socket,id=a', /'path' is missing/],
    ['socket,id=a,path=', /'path' is missing/],
    [`socket,id=a,path=${'p'.repeat(108)}`, /is too long; it must be less than 108 bytes/],
    ['socket,id=a,path=x,wait=off', /'wait' option is incompatible with .* client connect mode/],
    ['socket,id=a,path=x,server=on,reconnect=1', /'reconnect' option is incompatible/],
    ['socket,id=a,path=x,reconnect=-1', /'reconnect' expects .* from 0 to 86400, not '-1'/],
    ['socket,id=a,path=x,server=maybe', /'server' expects 'on' or 'off'/],
    ['socket,id=a,host=localhost', /'port' is missing/],
    ['socket,id=a,host=localhost,port=', /'port' is missing/],
    ['socket,id=a,host=localhost,port=0', /port from 1 to 65535, not '0'/],
    ['socket,id=a,host=localhost,port=70000,server=on', /port from 0 to 65535, not '70000'/],
    ['socket,id=a,host=localhost,port=http', /port from 1 to 65535, not 'http'/],
    ['socket,id=a,host=localhost,port=9,server=on,to=8', /'to' .* from 9 to 65535, not '8'/],
    ['socket,id=a,host=localhost,port=9,to=10', /'to' .* needs 'server=on'/],
    ['socket,id=a,host=localhost,port=9,ipv4=off,ipv6=off', /Cannot disable IPv4 and IPv6/],
    ['socket,id=a,host=h,port=9,path=x', /'path' and 'host' exclude each other/],
    ['socket,id=a,path=x,port=9', /'port' belongs to 'host', not 'path'/],
    ['socket,id=a,host=h,port=9,abstract=on', /'abstract' belongs to 'path', not 'host'/],
    ['socket,id=a,host=h,port=9,delay=on,nodelay=on', /mutually exclusive/],
    ['socket,id=a,host=h,port=9,tls-creds=t', /'tls-creds' is not supported: there is no TLS/],
    ['socket,id=a,host=h,port=9,tn3270=on', /'tn3270' is not supported/],
    ['udp,id=a,host=h', /'port' is missing/],
    ['udp,id=a,host=h,port=70000', /port from 1 to 65535, not '70000'/],
    ['udp,id=a,port=7,localport=x', /'localport' expects the number of a port from 0 .* not 'x'/],
    ['udp,id=a,port=7,server=on', /'server' belongs to 'socket', not 'udp'/],
    ['pipe,id=a', /'path' is missing/],
    ['ringbuf,id=a,size=1000', /must be power of two, .* not '1000'/],
    ['ringbuf,id=a,size=0', /must be power of two/],
    ['ringbuf,id=a,size=128M', /at most 67108864 bytes/],
    ['ringbuf,id=a,path=x', /'path' belongs to 'file', 'pipe', 'socket', not 'ringbuf'/],
    ['null,id=a,server=on', /'server' belongs to 'socket'/],
    ['file,id=a', /'path' is missing/],
    ['sokcet,id=a', /did you mean 'socket'/],
    ['null,id=1a', /expects an identifier/],
  ]
  for (const [argument, message] of cases) {
    t.throws(() => parseCommand(['-chardev', argument]), { message }, argument)
  }
  t.throws(() => parseCommand(['-serial', 'unix:']), { message: /lacks a name/ })
  t.throws(() => parseCommand(['-serial', 'unix:x,mux=on']), { message: /Invalid parameter 'mux'/ })
  const help = parseCommand(['-chardev', 'help'])
  t.true(help.kind === 'print' && /\n {2}ringbuf\n {2}socket\n {2}stdio\n {2}udp/.test(help.text))
})

test('short forms of character devices say what options would', (t) => {
  const socket = { noDelay: false, server: false, wait: false, reconnect: 0 }
  const cases: [string, object][] = [
    [
      'tcp:127.0.0.1:4444,server,nowait',
      {
        address: { type: 'inet', host: '127.0.0.1', port: 4444 },
        ...socket,
        protocol: 'tcp',
        server: true,
      },
    ],
    [
      'telnet::4444,server=on,to=4450,ipv4',
      {
        address: { type: 'inet', host: '', port: 4444, to: 4450, ipv4: true },
        ...socket,
        protocol: 'telnet',
        server: true,
        wait: true,
      },
    ],
    [
      'mon:tcp:[::1]:4444,nodelay,reconnect=5',
      {
        address: { type: 'inet', host: '::1', port: 4444 },
        ...socket,
        protocol: 'tcp',
        noDelay: true,
        reconnect: 5,
      },
    ],
    [
      'unix:x,abstract=on,tight=off,server,wait=off',
      {
        address: { type: 'unix', path: 'x', abstract: true },
        ...socket,
        protocol: 'tcp',
        server: true,
      },
    ],
  ]
  for (const [device, wanted] of cases) {
    const made = shortChardev(device, 'at')
    t.deepEqual(made?.socket, wanted as SocketSettings, device)
    t.is(made?.mux, device.startsWith('mon:'))
  }
  t.deepEqual(shortChardev('udp::4555@:4556', 'at')?.udp, {
    remote: { host: 'localhost', port: 4555 },
    local: { host: '', port: 4556 },
  })
  t.is(shortChardev('mon:pipe:/tmp/p', 'at')?.path, '/tmp/p')
  for (const device of ['none', 'chardev:c']) t.is(shortChardev(device, 'at'), undefined)
})

test('wrong short forms of character devices are refused', (t) => {
  const cases: [string, RegExp][] = [
    ['tcp:127.0.0.1', /parse error: tcp:127.0.0.1: '127.0.0.1' is not HOST:PORT/],
    ['tcp:[::1:4', /is not HOST:PORT/],
    ['tcp:h:70000', /not '70000'/],
    ['tcp:h:1,path=x', /Invalid parameter 'path'/],
    ['tcp:h:1,tls-creds=x', /'tls-creds' is not supported/],
    ['unix:x,abstract=on', /'tight' can only be 'off'/],
    ['unix:x,to=3', /Invalid parameter 'to'/],
    ['udp:h:1@h:2@h:3', /more than one '@'/],
    ['udp:h:1,server', /is not HOST:PORT/],
    ['mon:chardev:c', /'mon:' needs a device of its own/],
    ['mon:none', /not a valid char driver/],
    ['mon:mon:stdio', /not a valid char driver/],
    ['fifo:x', /not a valid char driver/],
    ['pipe:', /lacks a name/],
  ]
  for (const [device, message] of cases) {
    t.throws(() => parseCommand(['-serial', device]), { message }, device)
  }
})

test('-debugcon plugs in the debug console', (t) => {
  const command = parseCommand(['-display', 'none', '-debugcon', 'tcp::4444,server,nowait'])
  if (command.kind !== 'run') return t.fail(command.text)
  const { devices, chardevs } = command.settings
  t.deepEqual(devices, [
    { driver: 'isa-debugcon', properties: { iobase: '0xe9', chardev: 'debugcon' } },
  ])
  t.is(chardevs.get('debugcon')?.socket?.server, true)
  t.throws(() => parseCommand(['-debugcon', 'null', '-debugcon', 'null']), {
    message: /Duplicate ID 'debugcon'/,
  })
})
