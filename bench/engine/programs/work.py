# Objects, dictionaries, strings and a generator: what scripts do most of their time.


class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def moved(self, dx, dy):
        return Point(self.x + dx, self.y + dy)


def primes():
    found = []
    number = 2
    while True:
        if all(number % prime for prime in found if prime * prime <= number):
            found.append(number)
            yield number
        number += 1


def words(path):
    counts = {}
    with open(path) as file:
        for number, line in enumerate(file):
            if number == 3000:
                break
            for word in line.split():
                counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


point = Point(0, 0)
for step in range(20000):
    point = point.moved(step % 3, step % 5)
print(point.x, point.y)

last = 0
for index, prime in zip(range(350), primes()):
    last = prime
print(last)

for word, count in words("text")[:5]:
    print(word, count)

print(len("".join(str(n * n)[::-1] for n in range(15000))))
print(pow(3, 1 << 12, 10**300 + 7) % 1000003)
