package bolt

import (
	"context"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// settingTable holds the settings in memory.
type settingTable struct {
	// mu guards byName.
	mu     sync.RWMutex
	byName map[string]string
}

// load reads all settings from the file.
func (t *settingTable) load(tx *bbolt.Tx) error {
	t.byName = map[string]string{}
	b := tx.Bucket([]byte(bucketSettings))
	if b == nil {
		return fmt.Errorf("the bucket %s is missing from %s: %s", bucketSettings, tx.DB().Path(), cure)
	}
	return b.ForEach(func(name, sealed []byte) error {
		value, err := unseal(bucketSettings, name, sealed)
		if err != nil {
			return err
		}
		t.byName[string(name)] = string(value)
		return nil
	})
}

// Setting implements [db.Settings].
func (d *DB) Setting(ctx context.Context, name string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	d.settings.mu.RLock()
	defer d.settings.mu.RUnlock()
	value, ok := d.settings.byName[name]
	if !ok {
		return "", db.ErrNotFound
	}
	return value, nil
}

// PutSetting implements [db.Settings].
func (d *DB) PutSetting(ctx context.Context, name, value string, a db.Audit) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.change.Lock()
	defer d.change.Unlock()
	err := d.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketSettings))
		var err error
		if value == "" {
			err = b.Delete([]byte(name))
		} else {
			err = b.Put([]byte(name), seal([]byte(value)))
		}
		if err != nil {
			return err
		}
		return d.putAudit(tx, a)
	})
	if err != nil {
		return fmt.Errorf("write setting %s: %w", name, err)
	}
	d.settings.mu.Lock()
	defer d.settings.mu.Unlock()
	if value == "" {
		delete(d.settings.byName, name)
	} else {
		d.settings.byName[name] = value
	}
	return nil
}
