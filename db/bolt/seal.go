package bolt

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

// castagnoli is the CRC-32C, which processors compute.
func castagnoli(b []byte) uint32 { return crcUpdate(0, b) }

// crcUpdate goes on from the checksum of what stands before b.
func crcUpdate(sum uint32, b []byte) uint32 {
	return crc32.Update(sum, castagnoliTable, b)
}

var castagnoliTable = crc32.MakeTable(crc32.Castagnoli)

// sealSize is how many bytes a seal has.
const sealSize = 4

// seal puts a checksum in front of a value, because bbolt has none of its own:
// a flipped bit in a stored hash or limit must not pass for the truth.
func seal(value []byte) []byte {
	return appendSealed(make([]byte, 0, sealSize+len(value)), value)
}

// appendSealed appends a sealed value to b.
func appendSealed(b, value []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, castagnoli(value)), value...)
}

// sealFrame makes a frame the sealed value of its record: the seal is written over
// the frame's own checksum.
func sealFrame(frame []byte) []byte {
	sealed := frame[frameHead-sealSize:]
	binary.LittleEndian.PutUint32(sealed, castagnoli(sealed[sealSize:]))
	return sealed
}

// unseal returns the value behind its checksum. It is valid as long as b is.
func unseal(bucket string, id, b []byte) ([]byte, error) {
	if len(b) < sealSize || binary.LittleEndian.Uint32(b) != castagnoli(b[sealSize:]) {
		return nil, fmt.Errorf("record %q of %s is damaged (wrong checksum): %s", id, bucket, cure)
	}
	return b[sealSize:], nil
}

// putJSON stores v sealed.
func putJSON(tx *bbolt.Tx, bucket string, id []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(bucket)).Put(id, seal(b))
}

// eachJSON decodes all records of a bucket.
func eachJSON[T any](tx *bbolt.Tx, bucket string, fn func(*T)) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return fmt.Errorf("the bucket %s is missing from %s: %s", bucket, tx.DB().Path(), cure)
	}
	return b.ForEach(func(id, sealed []byte) error {
		value, err := unseal(bucket, id, sealed)
		if err != nil {
			return err
		}
		v := new(T)
		if err := json.Unmarshal(value, v); err != nil {
			return fmt.Errorf("record %q of %s can't be read (%w): %s", id, bucket, err, cure)
		}
		fn(v)
		return nil
	})
}
