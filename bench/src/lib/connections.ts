// A server of the host, and a program of the guest that connects to it very often, holds all connections, and then has each of
// them answered.
import { writeFileSync } from 'node:fs'
import { type Socket, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'

/** Sends back what it is sent. Counts those who are connected. */
export class EchoServer {
  readonly #sockets: Set<Socket> = new Set()
  readonly #server = createServer((socket) => {
    this.#sockets.add(socket)
    socket.on('data', (data) => socket.write(data))
    socket.on('error', () => {})
    socket.on('close', () => this.#sockets.delete(socket))
  })

  async listen(): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, resolve)
    })
    return (this.#server.address() as AddressInfo).port
  }

  get count(): number {
    return this.#sockets.size
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
  }
}

/** `PORT COUNT`: says how many of its connections were answered rightly while all were open, and stays. */
const program = `use Socket;
my ($port, $count) = @ARGV;
$| = 1;
my $to = sockaddr_in($port, inet_aton('10.0.2.2'));
my @all;
for my $i (1 .. $count) {
  socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket $i: $!";
  connect($s, $to) or die "connection $i: $!";
  push @all, $s;
}
my $answered = 0;
for my $i (0 .. $#all) { syswrite $all[$i], pack('N', $i) }
for my $i (0 .. $#all) {
  my ($text, $part) = ('', '');
  while (length $text < 4) { last unless sysread $all[$i], $part, 4; $text .= $part }
  $answered++ if $text eq pack('N', $i);
}
print "$answered answered\\n";
sleep;
__END__
`

/** Writes a disk that Perl reads as a program. */
export function writeProgramDisk(path: string): void {
  writeFileSync(path, program.padEnd(4096, '\n'))
}
