package auth

import (
	"errors"
	"fmt"
	"sync"

	"github.com/alexedwards/argon2id"
)

// errHash is what is wrong with a hash that is not ours to compute.
var errHash = errors.New("not a usable argon2id hash")

// hashMemory is what one computation takes, in bytes.
const hashMemory = 19 << 20

// firstHash is for the memory of the first computation.
var firstHash sync.Once

// Hash returns the argon2id hash of a text as a PHC string, with 19 MiB, two
// passes and one lane: about 25 ms of one core. An error means that there is no
// randomness for the salt.
//
// The secrets of keys have 256 random bits, which nobody guesses whatever the
// hash; the cost is for the admin password, and for the rule that nothing is
// stored which a thief of the file could turn into a key.
func Hash(text string) (phc string, err error) {
	firstHash.Do(takeMemory)
	phc, err = argon2id.CreateHash(text, &argon2id.Params{
		Memory: hashMemory >> 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32,
	})
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	return phc, nil
}

// ValidPHC tells whether a PHC string is an argon2id hash that TokenHub would
// check: at most 256 MiB, 1 to 16 passes, 1 to 16 lanes, a salt of 8 to 64 and
// a hash of 16 to 64 bytes. The error does not repeat the hash.
func ValidPHC(phc string) error {
	p, salt, key, err := argon2id.DecodeHash(phc)
	switch {
	case err != nil:
		return errHash // the cause may quote a part of the hash
	case p.Iterations < 1 || p.Iterations > 16:
		return fmt.Errorf("%w: passes must be 1 to 16", errHash)
	case p.Parallelism < 1 || p.Parallelism > 16:
		return fmt.Errorf("%w: lanes must be 1 to 16", errHash)
	case p.Memory < 8*uint32(p.Parallelism) || p.Memory > 256*1024:
		return fmt.Errorf("%w: memory must be 8 KiB a lane to 256 MiB", errHash)
	case len(salt) < 8 || len(salt) > 64:
		return fmt.Errorf("%w: the salt must have 8 to 64 bytes", errHash)
	case len(key) < 16 || len(key) > 64:
		return fmt.Errorf("%w: the hash must have 16 to 64 bytes", errHash)
	}
	return nil
}

// check tells whether text is what phc was made of. The parameters come from
// the stored hash, so they are looked at before memory is taken for them, and a
// panic of the library over a damaged one is an error.
func check(text, phc string) (match bool, err error) {
	if err := ValidPHC(phc); err != nil {
		return false, err
	}
	defer func() {
		if r := recover(); r != nil {
			match, err = false, errHash
		}
	}()
	firstHash.Do(takeMemory)
	match, err = argon2id.ComparePasswordAndHash(text, phc)
	if err != nil {
		return false, errHash
	}
	return match, nil
}
