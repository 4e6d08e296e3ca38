package auth

import (
	"crypto/subtle"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"tokenhub/db"
)

// digest stands for a text in memory: SHA-256 of a secret of this process and
// the text.
type digest [32]byte

// proof says that the text with this digest opens this hash. It says nothing
// about the key: whether the hash is still the key's, and the key usable, is
// read from the live record each time.
type proof struct {
	phc    string
	digest digest
}

// proofs remembers one proof for each hash, by the prefix of the key or token.
// Reading takes no lock: the shards are replaced as a whole by writers, which
// are as rare as argon2id is slow. A writer drops from its shard what is no
// longer live, so that a shard never holds more proofs than there were live
// hashes in it when it was last written.
type proofs struct {
	seed   maphash.Seed
	shards [64]shard
}

type shard struct {
	mu  sync.Mutex // held by writers
	now atomic.Pointer[map[string][]proof]
}

func (p *proofs) shard(prefix string) *shard {
	return &p.shards[maphash.String(p.seed, prefix)%uint64(len(p.shards))]
}

// of returns the proofs of one prefix; they are not the caller's to change.
func (p *proofs) of(prefix string) []proof {
	m := p.shard(prefix).now.Load()
	if m == nil {
		return nil
	}
	return (*m)[prefix]
}

// match returns the hash that the digest's text was proven to open, or "".
func (p *proofs) match(prefix string, d *digest) (phc string) {
	for _, known := range p.of(prefix) {
		if subtle.ConstantTimeCompare(known.digest[:], d[:]) == 1 {
			return known.phc
		}
	}
	return ""
}

// put stores a proof, if its hash is among the live ones of prefix. live tells
// them; ok is false when they can't be read now, and the proofs stay.
func (p *proofs) put(prefix string, add proof, live func(prefix string) (secrets []db.Secret, ok bool)) {
	s := p.shard(prefix)
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string][]proof{}
	keep := func(prefix string, list []proof) {
		secrets, ok := live(prefix)
		for _, known := range list {
			if !ok || has(secrets, known.phc) {
				next[prefix] = append(next[prefix], known)
			}
		}
	}
	if old := s.now.Load(); old != nil {
		for other, list := range *old {
			if other != prefix {
				keep(other, list)
			}
		}
	}
	list := []proof{add}
	for _, known := range p.of(prefix) {
		if known.phc != add.phc {
			list = append(list, known)
		}
	}
	keep(prefix, list)
	s.now.Store(&next)
}

// count returns the number of proofs.
func (p *proofs) count() (n int) {
	for i := range p.shards {
		if m := p.shards[i].now.Load(); m != nil {
			for _, list := range *m {
				n += len(list)
			}
		}
	}
	return n
}

func has(secrets []db.Secret, phc string) bool {
	for i := range secrets {
		if secrets[i].PHC == phc {
			return true
		}
	}
	return false
}
