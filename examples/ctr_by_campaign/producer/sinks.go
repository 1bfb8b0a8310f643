package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Sink takes events.
type Sink interface {
	Write(ctx context.Context, events []Event) error
	Close()
}

// Kafka writes plain JSON to topics called as the streams, keyed by the event's id.
type Kafka struct{ client *kgo.Client }

// NewKafka connects to brokers, given as host:port,host:port.
func NewKafka(brokers string) (*Kafka, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.RecordDeliveryTimeout(30*time.Second))
	return &Kafka{client}, err
}

// Write returns when all in-sync replicas have the events.
func (k *Kafka) Write(ctx context.Context, events []Event) error {
	records := make([]*kgo.Record, len(events))
	for i, event := range events {
		value, err := json.Marshal(event.Value)
		if err != nil {
			return err
		}
		records[i] = &kgo.Record{Topic: event.Stream, Key: []byte(event.Key), Value: value}
	}
	return k.client.ProduceSync(ctx, records...).FirstErr()
}

// Close ends the connection.
func (k *Kafka) Close() { k.client.Close() }

// Server appends to the streams of a Millpond server.
type Server struct{ url, key string }

// Write returns when the events are in the streams' logs.
func (s *Server) Write(ctx context.Context, events []Event) error {
	rows := map[string][]interface{}{}
	for _, event := range events {
		rows[event.Stream] = append(rows[event.Stream], event.Value)
	}
	for stream, values := range rows {
		if err := s.append(ctx, stream, values); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) append(ctx context.Context, stream string, rows []interface{}) error {
	body, err := json.Marshal(map[string]interface{}{"rows": rows})
	if err != nil {
		return err
	}
	url := strings.TrimRight(s.url, "/") + "/api/v1/streams/" + stream + "/records"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if s.key != "" {
		request.Header.Set("Authorization", "Bearer "+s.key)
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s: %s", url, reply.Status, text)
	}
	return err
}

// Close has nothing to end.
func (s *Server) Close() {}
