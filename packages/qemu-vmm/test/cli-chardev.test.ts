import test from 'ava'

import { parseCommand } from '../src/cli/parse.ts'

test('wrong keys of a character device are refused', (t) => {
  const cases: [string, RegExp][] = [
    ['socket,id=a', /'path' is missing/],
    ['socket,id=a,path=', /'path' is missing/],
    [`socket,id=a,path=${'p'.repeat(108)}`, /is too long; it must be less than 108 bytes/],
    ['socket,id=a,path=x,wait=off', /'wait' option is incompatible with .* client connect mode/],
    ['socket,id=a,path=x,server=on,reconnect=1', /'reconnect' option is incompatible/],
    ['socket,id=a,path=x,reconnect=-1', /'reconnect' expects .* from 0 to 86400, not '-1'/],
    ['socket,id=a,path=x,server=maybe', /'server' expects 'on' or 'off'/],
    ['socket,id=a,host=localhost,port=1', /'host' is not supported: sockets are UNIX sockets/],
    ['ringbuf,id=a,size=1000', /must be power of two, .* not '1000'/],
    ['ringbuf,id=a,size=0', /must be power of two/],
    ['ringbuf,id=a,size=128M', /at most 67108864 bytes/],
    ['ringbuf,id=a,path=x', /'path' belongs to 'file', 'socket', not 'ringbuf'/],
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
  t.true(help.kind === 'print' && /\n {2}ringbuf\n {2}socket\n/.test(help.text))
})
