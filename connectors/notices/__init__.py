"""Ways to tell people of something: a webhook, and e-mail."""
